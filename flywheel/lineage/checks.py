"""Is an artifact still what its name, its manifest and the ledger say? Every answer rests on bytes read now."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flywheel.data.decode import UndecodableImage, decode, image_id
from flywheel.data.folders import read_json
from flywheel.data.index import MANIFEST as INDEX_MANIFEST
from flywheel.data.index import TABLE, files_fingerprint, index_identity, read_image_file
from flywheel.data.tree import TreeError, read_tree
from flywheel.data.versions import VersionError, check_files, load_version, version_identity, version_table
from flywheel.evaluation.record import EvaluationError, read_evaluation
from flywheel.identity import digest, digest_of_file
from flywheel.ledger.entries import Json
from flywheel.lineage.node import Check, State
from flywheel.model.folder import ModelError, verify
from flywheel.paths import Paths
from flywheel.reasons import reason_of
from flywheel.records import DatasetVersion, TrainedModel, ValidationResult, as_dict, from_json
from flywheel.runtime.record import read_runtime

PIXEL_FILES = ("images.npy", "labels.npy")  # of a dataset version: what its id is no hash of


def artifacts_of(model: TrainedModel, paths: Paths) -> Json:
    """Hashes of what stands behind a model, for the ledger to keep with its promotion: names that are hashes of what
    went in can't tell whether what came out was changed."""
    return {"weights_sha256": model.weights_sha256, **_behind(model.dataset_id, paths)}


def _behind(dataset_id: str, paths: Paths) -> Json:
    """Hashes of a dataset version, its index and validations, and of the version that it extends."""
    manifest = read_json(paths.dataset(dataset_id) / "manifest.json")
    if not manifest:
        return {}
    index = str(manifest["index_id"])
    files = (file for subject in (dataset_id, index) for file in validation_files(subject, paths))
    found: Json = {
        "dataset_sha256": pixels_digest(manifest),
        "validations": {file.stem: digest_of_validation(file) for file in files},
    }
    if (table := paths.index(index) / TABLE).is_file():
        found["index_sha256"] = digest_of_file(table)
    if base := manifest.get("extends"):
        found["extends"] = _behind(str(base), paths)
    return found


def check_model(model_id: str, recorded: Json, paths: Paths) -> tuple[TrainedModel | None, Check]:
    """Every file against the manifest, and the weights against those that were promoted."""
    folder = paths.model(model_id)
    if not folder.is_dir():
        return None, Check(State.MISSING, f"no folder {folder}")
    try:
        model = verify(folder)
        read_runtime(folder, model)
    except (ModelError, OSError) as error:
        return None, Check(State.CHANGED, reason_of(error))
    if model.id != model_id:
        return None, Check(State.CHANGED, f"its manifest is that of {model.id}")
    expected = recorded.get("weights_sha256", model.weights_sha256)
    if model.weights_sha256 != expected:
        return model, Check(
            State.CHANGED, f"weights {model.weights_sha256[:12]}, those that were promoted were {expected[:12]}"
        )
    return model, Check(State.WHOLE, "every file")


def check_evaluation(evaluation_id: str, evidence_sha256: str | None, paths: Paths) -> tuple[str, Check]:
    """The answers by image against the hash that the gate recorded; with what was measured, in words."""
    folder = paths.report(evaluation_id)
    if not folder.is_dir():
        return "", Check(State.MISSING, f"no folder {folder}")
    try:
        evaluation = read_evaluation(folder)
    except (EvaluationError, OSError) as error:
        return "", Check(State.CHANGED, reason_of(error))
    told = f"top-1 {evaluation.top1} on {evaluation.images:,} images of {evaluation.evaluation_set_id}"
    told += f"; {evaluation.remade}" if evaluation.remade else ""
    if evidence_sha256 and evaluation.correct_sha256 != evidence_sha256:
        found = evaluation.correct_sha256[:12]
        return told, Check(State.CHANGED, f"answers {found}, the gate judged {evidence_sha256[:12]}")
    return told, Check(State.WHOLE, "the answers by image, as the gate judged them")


def check_dataset(dataset_id: str, recorded: Json, paths: Paths) -> tuple[DatasetVersion | None, Check]:
    """Every file against the manifest, the rows against the version's name, the pixels against what was promoted."""
    folder = paths.dataset(dataset_id)
    if not folder.is_dir():
        return None, Check(State.MISSING, f"no folder {folder}")
    try:
        version = load_version(folder)
        check_files(version)
        found = version_identity(version_table(version), version.classes, version.size, version.filter)
    except (VersionError, OSError, ValueError, KeyError) as error:
        return None, Check(State.CHANGED, reason_of(error))
    if found != dataset_id:
        return version, Check(State.CHANGED, f"its rows hash to {found}")
    pixels = pixels_digest(read_json(folder / "manifest.json") or {})
    if recorded.get("dataset_sha256", pixels) != pixels:
        return version, Check(State.CHANGED, "its packed images are not those that the promoted model learned")
    return version, Check(State.WHOLE, "every file, and the rows against its name")


def check_rows(dataset_id: str, paths: Paths) -> Check:
    """The rows of a version against its name; its packed images, which may be many gigabytes, are not read."""
    try:
        version = load_version(paths.dataset(dataset_id))
        found = version_identity(version_table(version), version.classes, version.size, version.filter)
    except (VersionError, OSError, ValueError, KeyError) as error:
        return Check(State.CHANGED, reason_of(error))
    if found != dataset_id:
        return Check(State.CHANGED, f"its rows hash to {found}")
    return Check(State.WHOLE, "the rows against its name")


def check_index(index_id: str, recorded: Json, paths: Paths) -> tuple[dict[str, Any] | None, Check]:
    """The rows against the index's name, all columns against what stood at a promotion; with its manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = paths.index(index_id)
    manifest = read_json(folder / INDEX_MANIFEST)
    if manifest is None:
        return None, Check(State.MISSING, f"no index in {folder}")
    try:
        found = index_identity(pq.read_table(folder / TABLE), tuple(manifest["classes"]))
    except (OSError, pa.ArrowException, KeyError) as error:
        return manifest, Check(State.CHANGED, f"{folder / TABLE} can't be read ({type(error).__name__})")
    if found != index_id:
        return manifest, Check(State.CHANGED, f"its rows hash to {found}")
    sha256 = digest_of_file(folder / TABLE)
    if recorded.get("index_sha256", sha256) != sha256:
        return manifest, Check(State.CHANGED, "what was measured of the images is not what stood at the promotion")
    return manifest, Check(State.WHOLE, "the rows against its name")


def check_source(manifest: dict[str, Any], paths: Paths) -> tuple[Path, Check]:
    """The files of a source against what was indexed: by size and time, and by their pixels where those differ."""
    import pyarrow.parquet as pq

    folder = Path(os.fsdecode(bytes.fromhex(manifest["folder"])))
    if not folder.is_dir():
        return folder, Check(State.MISSING, "no such folder")
    try:
        if files_fingerprint(folder, read_tree(folder)) == manifest["fingerprint"]:
            return folder, Check(State.WHOLE, "every file's size and time")
    except (TreeError, OSError) as error:
        return folder, Check(State.CHANGED, reason_of(error))
    rows = pq.read_table(paths.index(manifest["id"]) / TABLE, columns=["path", "image_id", "decode_ok"]).to_pylist()
    readable = [row for row in rows if row["decode_ok"]]
    changed = [row["path"] for row in readable if _pixels(folder / row["path"]) != row["image_id"]]
    if changed:
        return folder, Check(State.CHANGED, f"{len(changed):,} of {len(readable):,} images; first {changed[0]}")
    return folder, Check(State.WHOLE, f"the pixels of all {len(readable):,} images")


def check_validation(file: Path, recorded: Json) -> tuple[str, Check]:
    """A kept result against the hash that a promotion recorded; with what it says."""
    try:
        result = from_json(ValidationResult, file.read_bytes())
    except (OSError, ValidationError) as error:
        return "", Check(State.CHANGED, f"can't be read ({type(error).__name__})")
    met = sum(one.success for one in result.results)
    told = f"{met} of {len(result.results)} expectations met" + ("" if result.passed else ", a critical one not")
    expected = recorded.get("validations", {}).get(file.stem)
    if expected is None:
        return told, Check(State.UNCHECKED, "no promotion has recorded its hash")
    if digest_of_validation(file) != expected:
        return told, Check(State.CHANGED, "not the result that stood when the model was promoted")
    return told, Check(State.WHOLE, "as it was when the model was promoted")


def validation_files(subject: str, paths: Paths) -> list[Path]:
    """The kept results on an index or a dataset version."""
    return sorted(paths.validations.glob(f"{subject}-*.json"))


def digest_of_validation(file: Path) -> str:
    """Of what was found; not of where the page of it lies, which moves with the project. Empty where unreadable."""
    try:
        content = as_dict(from_json(ValidationResult, file.read_bytes()))
    except (OSError, ValidationError):
        return ""
    return digest({name: value for name, value in content.items() if name != "docs"})


def pixels_digest(manifest: dict[str, Any]) -> str:
    """Of a dataset version's packed images and labels."""
    return digest({name: manifest["files"][name]["sha256"] for name in PIXEL_FILES})


def _pixels(file: Path) -> str:
    try:
        return image_id(decode(read_image_file(file)))
    except UndecodableImage:
        return ""
