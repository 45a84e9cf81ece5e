"""Model → BentoML's store → Bento. What is on disk decides what is left to do."""

import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from flywheel.model.folder import MANIFEST, ModelError, read_manifest, verify
from flywheel.paths import Paths
from flywheel.records import Evaluation, PackagedBento, TrainedModel, to_json
from flywheel.runtime.record import Runtime, read_runtime, runtime_files
from flywheel.settings import PROJECT
from tasks.bento_build import BuildRequest
from tasks.bento_contents import contents_version, pinned_packages, shipped_files
from tasks.parity import recorded_parity

log = logging.getLogger(__name__)

NAME = "classifier"
CONTENTS_DIGITS = 8
BUILD_SECONDS = 300.0
STALE_SECONDS = 3600.0
LOG_CHARACTERS = 4000


class PackagingError(RuntimeError):
    """The Bento could not be built."""


def package_model(model: TrainedModel, evaluation: Evaluation | None, paths: Paths) -> PackagedBento:
    """The Bento of this model and this service code; built once, found again after that.

    Its version is content: the model's hex and the digest of the shipped code and pins. It is built in a home of its
    own and renamed into the project's store; what was damaged there since is removed and built again. Raises
    PackagingError or ModelError.
    """
    runtime = _chosen_runtime(model)
    bento = _bento_of(model, paths)
    whole = _wholeness(bento, model, paths)
    for damaged in (path for path in whole if not whole[path] and path.is_dir()):
        log.warning("%s: files are missing or damaged; removed, to be built again", damaged)
        shutil.rmtree(damaged)
    if not all(whole.values()):
        identities = _identities(model, evaluation) | {"engine": runtime.engine.value}
        _build(model, runtime, identities, _metrics(model, evaluation), bento.tag, paths)
    return answered(bento)


def find_bento(model: TrainedModel, paths: Paths) -> PackagedBento | None:
    """The model's Bento by this service code, if it is whole; None where it has to be built."""
    bento = _bento_of(model, paths)
    return answered(bento) if all(_wholeness(bento, model, paths).values()) else None


def answered(bento: PackagedBento) -> PackagedBento:
    """With how the Bento answered when it was served; empty where it was not asked yet."""
    parity = recorded_parity(bento.folder)
    return replace(bento, smoke_test=parity.summary if parity else "")


def serve_command(paths: Paths, tag: str) -> str:
    """The whole line that serves a Bento of this project, telemetry off, from a shell in any state."""
    program = Path(sys.executable).with_name("bentoml")
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_relative_to(here) else program
    environment = f"BENTOML_HOME={shlex.quote(str(paths.bentoml))} BENTOML_DO_NOT_TRACK=True"
    return f"{environment} {shlex.quote(str(shown))} serve {tag}"


def _hex(model_id: str) -> str:
    return model_id.partition("-")[2]


def _bento_of(model: TrainedModel, paths: Paths) -> PackagedBento:
    """What the model's Bento is called and where it lies, whether or not it is there."""
    model_tag = f"{NAME}:{_hex(model.id)}"
    tag = f"{model_tag}-{contents_version(PROJECT)[:CONTENTS_DIGITS]}"
    return PackagedBento(tag, model_tag, model.id, _stored(paths, "bentos", tag), "")


def _wholeness(bento: PackagedBento, model: TrainedModel, paths: Paths) -> dict[Path, bool]:
    """Of the Bento's folder and of the model's in BentoML's store."""
    stored_model = _stored(paths, "models", bento.model_tag)
    return {bento.folder: _is_whole_bento(bento.folder), stored_model: _is_whole_model(stored_model, model)}


def _stored(paths: Paths, store: str, tag: str) -> Path:
    name, version = tag.split(":")
    return paths.bentoml / store / name / version


def _is_whole_bento(folder: Path) -> bool:
    """It has its description, and its sources are those of this project, as its tag says."""
    return (folder / "bento.yaml").is_file() and all(
        (folder / "src" / file).is_file() and (folder / "src" / file).read_bytes() == (PROJECT / file).read_bytes()
        for file in shipped_files(PROJECT)
    )


def _is_whole_model(folder: Path, model: TrainedModel) -> bool:
    """It has BentoML's description, this model's manifest, every file with the manifest's hash, and its engine."""
    try:
        stored = verify(folder)
        runtime = read_runtime(folder, stored)
        same_engine = runtime is not None and runtime == read_runtime(model.folder, model)
    except (ModelError, OSError):
        return False
    same = (stored.id, stored.weights_sha256) == (model.id, model.weights_sha256)
    return same and same_engine and (folder / "model.yaml").is_file()


def _chosen_runtime(model: TrainedModel) -> Runtime:
    """The engine that serves it; measured the first time."""
    from flywheel.runtime.choice import chosen_runtime

    runtime = chosen_runtime(model.folder)
    log.info("%s is served by %s. %s", model.id, runtime.engine.value, runtime.reason)
    return runtime


def _identities(model: TrainedModel, evaluation: Evaluation | None) -> dict[str, str]:
    """What the Bento came from; `/model` answers it. What is decided of it later stands in the ledger, by model."""
    identities = {
        "model": model.id,
        "dataset": model.dataset_id,
        "task": model.task_id,
        "service_code": contents_version(PROJECT)[:CONTENTS_DIGITS],
        "weights": model.weights_sha256[:32],
    }
    if evaluation is not None:
        identities |= {"evaluation": evaluation.id, "evaluation_set": evaluation.evaluation_set_id}
    return {name: value for name, value in identities.items() if value}


def _metrics(model: TrainedModel, evaluation: Evaluation | None) -> dict[str, float | int | str]:
    metrics: dict[str, float | int | str] = {"parameters": model.parameters}
    if model.top1_validation is not None:
        metrics["top1_validation"] = model.top1_validation
    if evaluation is not None:
        top1 = evaluation.top1
        metrics |= {"top1": top1.value, "top1_low": top1.low, "top1_high": top1.high, "ece": evaluation.ece}
        metrics |= {"nll": evaluation.nll, "evaluation_images": evaluation.images}
    return metrics


def _build(
    model: TrainedModel,
    runtime: Runtime,
    identities: dict[str, str],
    metrics: dict[str, float | int | str],
    bento_tag: str,
    paths: Paths,
) -> None:
    paths.bentoml.mkdir(parents=True, exist_ok=True)
    _remove_stale(paths.bentoml)
    with tempfile.TemporaryDirectory(prefix="building-", dir=paths.bentoml, ignore_cleanup_errors=True) as scratch:
        home = Path(scratch, "home")
        home.mkdir()
        request = BuildRequest(
            sources=_stage_sources(Path(scratch, "sources")),
            model_files=_stage_model(model, runtime, Path(scratch, "model")),
            model_tag=f"{NAME}:{_hex(model.id)}",
            bento_tag=bento_tag,
            labels=identities,
            metadata=metrics,
            packages=pinned_packages(),
        )
        _run_build(request, Path(scratch, "request.json"), home)
        _adopt(home, paths.bentoml, "models", request.model_tag)
        _adopt(home, paths.bentoml, "bentos", request.bento_tag)


def _remove_stale(home: Path) -> None:
    """What a killed build left behind."""
    for folder in home.glob("building-*"):
        if time.time() - folder.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _stage_sources(folder: Path) -> Path:
    """Only what ships: BentoML walks the whole build folder, and a project's has a virtual environment and data."""
    for file in shipped_files(PROJECT):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / file, folder / file)
    return folder


def _stage_model(model: TrainedModel, runtime: Runtime, folder: Path) -> Path:
    """The manifest, the files that it answers for, the engine; what lies beside them, as predictions do, stays."""
    for name in (MANIFEST, *read_manifest(model.folder)["files"], *runtime_files(runtime)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.folder / name, folder / name)
    return folder


def _run_build(request: BuildRequest, file: Path, home: Path) -> None:
    file.write_text(to_json(request), encoding="utf-8")
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "tasks.bento_build", str(file)]
    try:
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PackagingError(f"{request.bento_tag}: not built after {BUILD_SECONDS:.0f} s. Run it again.") from error
    if done.returncode:
        log = (done.stdout + done.stderr)[-LOG_CHARACTERS:]
        raise PackagingError(f"{request.bento_tag}: BentoML's build ended with exit code {done.returncode}.\n{log}")


def _adopt(built: Path, home: Path, store: str, tag: str) -> None:
    """Renames a finished item into the project's store, whole; where another run was first, its equal one stays."""
    name, version = tag.split(":")
    target = home / store / name / version
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_dir():
        try:
            (built / store / name / version).rename(target)
        except OSError:
            if not target.is_dir():
                raise
    (target.parent / "latest").unlink(missing_ok=True)  # BentoML's own note; it makes it again from creation times
