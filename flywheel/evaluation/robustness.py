"""How a model stands corrupted images: measured once an evaluation, kept beside it, compared image by image.

`robustness.json` lies in the evaluation's folder and changes nothing of the evaluation or its identity. It holds which
images a model got right under which corruption, so two models' records are enough to compare them paired.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flywheel.data.decode import decode
from flywheel.data.folders import read_json, write_json
from flywheel.data.originals import original_bytes
from flywheel.data.versions import DatasetArrays, open_arrays
from flywheel.evaluation.corruptions import CONDITIONS, FORMULAS, STRENGTHS, Ids, corrupt
from flywheel.evaluation.record import EvaluationError, evaluation_id
from flywheel.evaluation.statistics import CONFIDENCE
from flywheel.identity import canonical_json, digest, digest_of_lines
from flywheel.paths import Paths
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, Interval, Side, as_dict, from_json

if TYPE_CHECKING:
    from flywheel.model.inference import Classifier

MANIFEST = "robustness.json"
IMAGES = 1000  # at most; × 21 copies, so that a small net is done in seconds
IMAGES_AT_ONCE = 250  # 38 MB of pixels at 224 a side
# A record that was measured in another way isn't compared, but made again.
SETTINGS: dict[str, Any] = {
    "format": 1,
    "formulas": FORMULAS,
    "images": IMAGES,
    "strengths": {name: list(values) for name, values in STRENGTHS.items()},
}


class RobustnessError(EvaluationError):
    """A measurement that can't be made, a record that can't be trusted, or two that can't be compared."""


@dataclass(frozen=True)
class Condition:
    """One corruption at one severity."""

    corruption: str
    severity: int
    right: int  # images
    outcomes: str  # hex of a bit an image, in the order of image ids: 1 is right


@dataclass(frozen=True)
class Robustness:
    """A model's answers to the corrupted copies of a fixed part of an evaluation set."""

    model_id: str
    part_sha256: str  # of the part's image ids and labels
    images: int
    size: int  # pixels a side, at which the copies were corrupted: the model's own
    conditions: tuple[Condition, ...]
    seconds: float


def robustness_part(ids: Ids, limit: int = IMAGES) -> NDArray[np.int64]:
    """Which images of an evaluation set are corrupted: their positions, sorted by image id.

    A simple random sample, drawn by a hash of the image ids alone: it is the same for every model, and a smaller part
    lies in a larger one. Not stratified: its mean is an estimate of the whole set's, with images as the units.
    """
    drawn = sorted(range(len(ids)), key=lambda row: hashlib.sha256(f"robustness {ids[row]}".encode()).digest())
    return np.array(sorted(drawn[:limit], key=lambda row: ids[row]), np.int64)


def measure_robustness(
    classifier: "Classifier",
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    ids: Ids,
    *,
    progress: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> Robustness:
    """Corrupt the part of uint8[N, S, S, 3], at the model's own size, in every way, and count the right answers.

    A memory map is read a batch at a time. Raises RobustnessError where there is no image or a logit isn't finite.
    """
    part = robustness_part(ids)
    if len(part) == 0:
        raise RobustnessError(f"{classifier.model.id}: no images to corrupt, the evaluation set is empty.")
    started, right = clock(), np.zeros((len(CONDITIONS), len(part)), bool)
    for start in range(0, len(part), IMAGES_AT_ONCE):
        rows = part[start : start + IMAGES_AT_ONCE]
        pixels, names = np.asarray(images[rows]), [str(ids[row]) for row in rows]
        for place, (corruption, severity) in enumerate(CONDITIONS):
            logits = classifier.predict_packed(corrupt(pixels, names, corruption, severity)).logits
            if not np.isfinite(logits).all():
                raise RobustnessError(f"{classifier.model.id}: a logit under {corruption} {severity} isn't finite.")
            right[place, start : start + len(rows)] = logits.argmax(axis=1) == labels[rows]
        progress("robustness", start + len(rows), len(part))
    return Robustness(
        model_id=classifier.model.id,
        part_sha256=digest_of_lines(f"{ids[row]} {labels[row]}" for row in part),
        images=len(part),
        size=int(images.shape[1]),
        conditions=tuple(
            Condition(corruption, severity, int(bits.sum()), np.packbits(bits).tobytes().hex())
            for (corruption, severity), bits in zip(CONDITIONS, right, strict=True)
        ),
        seconds=max(clock() - started, 0.0),
    )


def evaluate_robustness(
    classifier: "Classifier", version: DatasetVersion, paths: Paths, *, progress: Progress = silent, again: bool = False
) -> Robustness:
    """The record in the folder of the model's evaluation on the version's frozen side; measured where it isn't valid,
    or `again`.

    Raises RobustnessError where the model was not evaluated before, so that there is no folder.
    """
    folder = paths.report(evaluation_id(classifier.model.id, version.evaluation_set_id))
    if not again:
        with suppress(RobustnessError):
            return recorded_robustness(folder, classifier.model.id)
    arrays = open_arrays(version)
    frozen = arrays.side(Side.FROZEN)
    rows = frozen[robustness_part(arrays.ids[frozen])]
    images = _images_for(classifier, version, arrays, rows, paths)
    found = measure_robustness(classifier, images, arrays.labels[rows], arrays.ids[rows], progress=progress)
    write_robustness(folder, found)
    return found


def write_robustness(folder: Path, robustness: Robustness) -> None:
    """Keep the record in an evaluation's folder, whole or not at all."""
    if not folder.is_dir():
        raise RobustnessError(f"{folder}: an evaluation's folder expected, none found. Evaluate the model first.")
    write_json(folder / MANIFEST, _document(folder, as_dict(robustness)))


def recorded_robustness(folder: Path, model_id: str) -> Robustness:
    """The model's record in its evaluation's folder. Raises RobustnessError: it is missing, damaged or another's."""
    path, again = folder / MANIFEST, "It is measured again with the next evaluation."
    found = read_json(path)
    if found is None:
        raise RobustnessError(f"{path}: a readable record expected, none found. {again}")
    if found.get("settings") != SETTINGS:
        raise RobustnessError(f"{path}: it was measured with other settings. {again}")
    try:
        if found != _document(folder, found.get("robustness")):
            raise RobustnessError(f"it is damaged, or of another evaluation than {folder.name}")
        robustness = from_json(Robustness, canonical_json(found["robustness"]))
        if robustness.model_id != model_id:
            raise RobustnessError(f"it is {robustness.model_id}'s, {model_id}'s was expected")
        outcomes(robustness)
    except (ValueError, RobustnessError) as error:
        raise RobustnessError(f"{path}: not a record to trust: {str(error).rstrip('.')}. {again}") from error
    return robustness


def outcomes(robustness: Robustness) -> NDArray[np.bool_]:
    """bool[21, images]: was the answer right; rows as CONDITIONS, columns in the order of image ids."""
    if tuple((condition.corruption, condition.severity) for condition in robustness.conditions) != CONDITIONS:
        raise RobustnessError(f"{robustness.model_id}: other corruptions than this version's were measured.")
    try:
        packed = [np.frombuffer(bytes.fromhex(condition.outcomes), np.uint8) for condition in robustness.conditions]
    except ValueError as error:
        raise RobustnessError(f"{robustness.model_id}: its outcomes aren't hexadecimal: {error}.") from error
    if any(len(bits) != (robustness.images + 7) // 8 for bits in packed) or robustness.images < 1:
        raise RobustnessError(f"{robustness.model_id}: an outcome for each of {robustness.images:,} images expected.")
    right = np.unpackbits(np.stack(packed), axis=1, count=robustness.images).astype(bool)
    if right.sum(axis=1).tolist() != [condition.right for condition in robustness.conditions]:
        raise RobustnessError(f"{robustness.model_id}: the outcomes don't add up to the images that were right.")
    return right


def corrupted_accuracy(
    robustness: Robustness, corruption: str | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Mean top-1 under all corruptions and severities, or under one corruption's three."""
    return _mean(_by_image(robustness, corruption), 0.0, 1.0, confidence)


def robustness_difference(
    challenger: Robustness, champion: Robustness, corruption: str | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """The challenger's mean top-1 under corruption minus the champion's, on the same images.

    Raises RobustnessError where the two were not measured on the same images and labels.
    """
    if (challenger.part_sha256, challenger.images) != (champion.part_sha256, champion.images):
        raise RobustnessError(
            f"{challenger.model_id} and {champion.model_id} were corrupted on different images: they can't be compared."
        )
    return _mean(_by_image(challenger, corruption) - _by_image(champion, corruption), -1.0, 1.0, confidence)


def _by_image(robustness: Robustness, corruption: str | None) -> NDArray[np.float64]:
    """float64[images]: the share of an image's corrupted copies that were answered right."""
    kept = [place for place, (name, _) in enumerate(CONDITIONS) if corruption in (None, name)]
    if not kept:
        raise ValueError(f"'{corruption}': no such corruption.")
    share: NDArray[np.float64] = outcomes(robustness)[kept].mean(axis=0)
    return share


def _mean(values: NDArray[np.float64], least: float, most: float, confidence: float) -> Interval:
    """The mean of independent values in least..most with a normal interval; one value an image, so copies of an image
    don't count as images.

    The variance is that of the images and two more, one at either end of the range (the idea of Agresti & Min 2005 for
    paired shares): so models that never differ leave an interval with a width.
    """
    mean, count = float(values.mean()), len(values)
    squares = float(((values - mean) ** 2).sum()) + (most - mean) ** 2 + (mean - least) ** 2
    half = NormalDist().inv_cdf((1 + confidence) / 2) * (squares / (count + 1) / count) ** 0.5
    return Interval(mean, max(least, mean - half), min(most, mean + half))


def _document(folder: Path, robustness: object) -> dict[str, Any]:
    content = {"evaluation_id": folder.name, "settings": SETTINGS, "robustness": robustness}
    return {**content, "sha256": digest(content)}


def _images_for(
    classifier: "Classifier", version: DatasetVersion, arrays: DatasetArrays, rows: NDArray[np.int64], paths: Paths
) -> NDArray[np.uint8]:
    """The packed images, or, for a model of another size or filter (an older champion), the originals packed for it."""
    from flywheel.model.preprocessing import pack

    ours = classifier.model.preprocessing
    if (ours.size, ours.filter) == (version.size, version.filter):
        return np.asarray(arrays.images[rows])
    return pack([decode(original_bytes(paths, str(name))) for name in arrays.ids[rows]], ours)
