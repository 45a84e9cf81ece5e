"""The way of an image: into dataset versions, models, and the tasks whose champions they were."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.data.decode import UndecodableImage, decode, image_id
from flywheel.data.index import read_image_file
from flywheel.data.originals import OriginalError, original_bytes
from flywheel.data.versions import LEFT_OUT_FILE, ROWS, VersionError, load_version, read_left_out
from flywheel.ledger import Ledger
from flywheel.ledger.predictions import PredictionLog
from flywheel.lineage.checks import check_model, check_rows
from flywheel.lineage.model import champion_node, recorded_artifacts
from flywheel.lineage.node import Check, LineageError, Node, State
from flywheel.lineage.prediction import NOT_CHAINED
from flywheel.model.folder import ModelError, read_model
from flywheel.paths import Paths
from flywheel.reasons import reason_of
from flywheel.records import Side, TrainedModel

LEAST_DIGITS = 8  # of an image id that is not written out
ROLES = {  # what a model had of an image, by the side that it stood on
    Side.TRAIN: "learned by",
    Side.VALIDATION: "chose the checkpoint of",
    Side.REFERENCE: "is a reference of",
    Side.FROZEN: "judged",
    Side.DRIFTED: "judged under drift",
    Side.UNUSED: "was left over for",
}


@dataclass(frozen=True)
class Place:
    """Where an image stands in a dataset version."""

    dataset_id: str
    image_id: str
    label: str
    side: Side
    path: str  # in the source


def explain_image(image: str, ledger: Ledger, predictions: PredictionLog, paths: Paths) -> Node:
    """Every dataset version that holds an image, with its side and label, the models of those, where they were
    champion, and how often which model was asked about it. `image` is an id, its first digits, or a file. Raises
    LineageError where nothing knows it."""
    wanted = _identity(image)
    places = list(_places(wanted, paths))
    left_out = list(_left_out(wanted, paths))
    known = {each.image_id for each in places} | {identity for _, identity, _ in left_out}
    if not known and predictions.count_by_model(wanted):
        known = {wanted}
    if len(known) != 1:
        many = f"{len(known)} images begin so" if known else "no dataset version and no prediction knows it"
        raise LineageError(f"{image}: {many} (image id {wanted}). Name an image of {paths.datasets} by file or id.")
    (identity,) = known
    models = _models(paths)
    children = [_version(place, models.get(place.dataset_id, []), ledger, paths) for place in places]
    children += [
        Node("left out of", "dataset version", dataset, told, check_rows(dataset, paths))
        for dataset, _, told in left_out
    ]
    children += [
        Node("classified by", "model", model_id, f"{count:,} times", NOT_CHAINED)
        for model_id, count in sorted(predictions.count_by_model(identity).items())
    ]
    check = _check_original(identity, paths) if places or left_out else Check(State.UNCHECKED, "of no dataset version")
    return Node("", "image", identity, "", check, tuple(children))


def _identity(image: str) -> str:
    """The id of a file's pixels, or the id as it was given."""
    file = Path(image)
    if not file.exists() and re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},64}}", image):
        return image
    try:
        return image_id(decode(read_image_file(file)))
    except UndecodableImage as error:
        raise LineageError(
            f"{image}: an image's file expected, or {LEAST_DIGITS} to 64 hex digits of its id; {error}"
        ) from error


def _places(wanted: str, paths: Paths) -> Iterator[Place]:
    for rows in sorted(paths.datasets.glob(f"ds-*/{ROWS}")):
        try:
            table = pq.read_table(rows, columns=["image_id", "label", "side", "path"])
        except (OSError, pa.ArrowException):
            continue  # it is told where a model of this version is explained
        for row in table.filter(pc.starts_with(table["image_id"], wanted)).to_pylist():
            yield Place(rows.parent.name, row["image_id"], row["label"], Side(row["side"]), row["path"])


def _left_out(wanted: str, paths: Paths) -> Iterator[tuple[str, str, str]]:
    """(dataset version, image id, why)"""
    for listing in sorted(paths.datasets.glob(f"ds-*/{LEFT_OUT_FILE}")):
        try:
            rows = read_left_out(load_version(listing.parent))
        except (VersionError, OSError, ValueError):
            continue
        for row in rows[rows["image_id"].str.startswith(wanted)].to_dict("records"):
            yield listing.parent.name, row["image_id"], f"{row['path']} ({row['label']}): {row['why']}"


def _models(paths: Paths) -> dict[str, list[TrainedModel]]:
    """Every readable model, by its dataset version."""
    found: dict[str, list[TrainedModel]] = {}
    for folder in sorted(paths.models.glob("model-*")):
        try:
            model = read_model(folder)
        except ModelError:
            continue
        found.setdefault(model.dataset_id, []).append(model)
    return found


def _version(place: Place, models: list[TrainedModel], ledger: Ledger, paths: Paths) -> Node:
    children = tuple(_model(model.id, place.side, ledger, paths) for model in models)
    told = f"{place.side} side, as “{place.label}”: {place.path}"
    return Node("in", "dataset version", place.dataset_id, told, check_rows(place.dataset_id, paths), children)


def _model(model_id: str, side: Side, ledger: Ledger, paths: Paths) -> Node:
    recorded = recorded_artifacts(ledger.decisions(model_id=model_id))
    model, check = check_model(model_id, recorded, paths)
    crowns = tuple(champion_node(each, ledger) for each in ledger.history() if each.model_id == model_id)
    told = f"{model.architecture}, seed {model.seed}" if model else ""
    return Node(ROLES[side], "model", model_id, told, check, crowns)


def _check_original(identity: str, paths: Paths) -> Check:
    """The kept bytes of the image against its name."""
    try:
        found = image_id(decode(original_bytes(paths, identity)))
    except OriginalError as error:
        return Check(State.MISSING, reason_of(error))
    except UndecodableImage as error:
        return Check(State.CHANGED, f"its kept bytes: {error}")
    if found != identity:
        return Check(State.CHANGED, f"its kept bytes are those of {found[:12]}")
    return Check(State.WHOLE, "its kept bytes against its name")
