"""Has a model learned from an image that judges it? Looked for in all that it and its ancestors were trained on.

An evaluation image leaks where the same image (by its id) or a near duplicate (`flywheel.data.duplicates`, by its
thresholds) stands on the training, validation or reference side of a dataset version that a model learned from. A
version keeps its own sides apart; so what is found here came another way: the champion learned from an older version,
the first weights are another model's, or a version's files were changed.

Comparing two versions costs about 3 CPU seconds for 10,000 × 50,000 images, so the result is kept beside the training
version, under a hash of all that it depends on.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from flywheel.data.duplicates import EVIDENCE, SIMILARITY, near_duplicates
from flywheel.data.folders import read_json, write_json
from flywheel.data.index import DESCRIPTOR, unpack_descriptors
from flywheel.data.versions import MANIFEST, ROWS, VersionError, load_version
from flywheel.evaluation.ancestry import learned_from
from flywheel.identity import NAME_DIGITS, canonical_json, digest, digest_of_file, digest_of_lines
from flywheel.paths import Paths
from flywheel.reasons import reason_of
from flywheel.records import DatasetVersion, Side, as_dict, from_json

log = logging.getLogger(__name__)

LEARNED = (Side.TRAIN, Side.VALIDATION, Side.REFERENCE)  # weights, choice of the epoch, calibration
MOST_PAIRS = 20  # that are named
AGAIN = "Delete the folder and run 'make data' with its source; the same version is made again."
FORMAT = 1  # raised when the comparison changes: what was kept before is made again


@dataclass(frozen=True)
class LeakPair:
    """An evaluation image, and the most similar of the learned images that show the same."""

    evaluation_image: str  # image id
    evaluation_path: str  # in its source
    learned_image: str
    learned_path: str
    side: str  # of the learned image
    similarity: float  # correlation of the descriptors; 1 for the same pixels


@dataclass(frozen=True)
class Leaks:
    """The evaluation images that one dataset version holds on its learned sides."""

    learned_images: int = 0  # that were looked through
    exact: int = 0  # evaluation images with the same pixels there
    near: int = 0  # others, with a near duplicate there
    pairs: tuple[LeakPair, ...] = ()  # the first MOST_PAIRS, the most similar ones

    @property
    def found(self) -> int:
        return self.exact + self.near

    @property
    def in_words(self) -> str:
        """Those kinds that there are: `1 the same, 3 near duplicates`."""
        near = f"{self.near:,} near duplicate{'' if self.near == 1 else 's'}" if self.near else ""
        return ", ".join(filter(None, (f"{self.exact:,} the same" if self.exact else "", near)))


@dataclass(frozen=True)
class LeakFindings:
    """What one model learned from, one dataset version of it; a model with ancestors has several."""

    model_id: str
    dataset_id: str  # empty where it can't be told
    ancestor_id: str = ""  # the model that learned from it, where that is one whose weights this one began with
    leaks: Leaks = Leaks()
    problem: str = ""  # why it could not be looked through
    unknown: str = ""  # first weights from elsewhere: nobody here knows what they learned from


@dataclass(frozen=True)
class LeakCheck:
    """All models of one comparison against one evaluation set."""

    evaluation_set_id: str
    images: int  # of the evaluation set
    models: tuple[LeakFindings, ...]
    problem: str = ""  # why the evaluation set itself could not be read

    def of(self, model_id: str) -> tuple[LeakFindings, ...]:
        return tuple(findings for findings in self.models if findings.model_id == model_id)

    @property
    def problems(self) -> tuple[str, ...]:
        """All reasons for which a leak may have been missed."""
        return tuple(filter(None, (self.problem, *(findings.problem for findings in self.models))))

    @property
    def passed(self) -> bool:
        """Everything was looked through, there was something, and nothing leaks."""
        looked = self.images > 0 and bool(self.models) and not self.problems
        return looked and not any(findings.leaks.found for findings in self.models)

    @property
    def summary(self) -> str:
        """In a few sentences, for a gate's reason and a person."""
        if self.passed:
            looked = sum(findings.leaks.learned_images for findings in self.models)
            told = [f"None of {self.images:,} evaluation images is among {looked:,} that were learned from."]
        else:
            told = [problem if problem.endswith(".") else f"{problem}." for problem in self.problems]
            leaking = [findings for findings in self.models if findings.leaks.found]
            alike = dict.fromkeys((each.dataset_id, each.ancestor_id) for each in leaking)
            told += [
                self._told([each for each in leaking if (each.dataset_id, each.ancestor_id) == where])
                for where in alike
            ]
        told += [f"What {each.unknown} learned from is not known here." for each in self.models if each.unknown]
        return " ".join(told) or "There was nothing to look through."

    def _told(self, alike: Sequence[LeakFindings]) -> str:
        """Of the models that learned from one dataset version the same way."""
        leaks, first = alike[0].leaks, alike[0].leaks.pairs[0]
        through = f" through {alike[0].ancestor_id}" if alike[0].ancestor_id else ""
        who = " and ".join(each.model_id for each in alike)
        return (
            f"{who} learned from {leaks.found:,} of {self.images:,} evaluation images{through} ({leaks.in_words}): "
            f"{first.evaluation_path} is {first.learned_path}, "
            f"{alike[0].dataset_id}, {first.side} side, similarity {first.similarity:.3f}."
        )


@dataclass(frozen=True)
class _Images:
    """Some rows of a version."""

    ids: NDArray[np.object_]
    paths: NDArray[np.object_]
    sides: NDArray[np.object_]
    descriptors: NDArray[np.int16]  # [N, 63]

    def __len__(self) -> int:
        return len(self.ids)


def check_leaks(evaluation: DatasetVersion, model_ids: Sequence[str], paths: Paths) -> LeakCheck:
    """The frozen side of `evaluation` against all that the models, found by id in `paths`, learned from.

    What is missing or damaged is a `problem` of the record, never an exception and never a pass.
    """
    try:
        frozen = _images(_rows(evaluation.folder), (Side.FROZEN,))
    except VersionError as error:
        return LeakCheck(evaluation.evaluation_set_id, 0, (), f"{reason_of(error)}.")
    findings = [
        found for model_id in dict.fromkeys(model_ids) for found in _of_model(model_id, frozen, evaluation, paths)
    ]
    check = LeakCheck(evaluation.evaluation_set_id, len(frozen), tuple(findings))
    log.info("leaks of %s: %s", evaluation.evaluation_set_id, check.summary)
    return check


def _of_model(model_id: str, frozen: _Images, evaluation: DatasetVersion, paths: Paths) -> Iterator[LeakFindings]:
    for learned in learned_from(model_id, paths):
        findings = LeakFindings(
            model_id, learned.dataset_id, learned.ancestor_id, Leaks(), learned.problem, learned.unknown
        )
        if learned.dataset_id:
            try:
                findings = replace(
                    findings, leaks=_kept_or_compared(frozen, evaluation, paths.dataset(learned.dataset_id))
                )
            except VersionError as error:
                findings = replace(findings, problem=" ".join(filter(None, (learned.problem, f"{reason_of(error)}."))))
        yield findings


def _kept_or_compared(frozen: _Images, evaluation: DatasetVersion, folder: Path) -> Leaks:
    """Raises VersionError where the version in the folder is missing or damaged."""
    rows = _rows(folder)
    asked = {
        "format": FORMAT,
        "evaluation_set_id": evaluation.evaluation_set_id,
        "evaluation": digest_of_lines(map(canonical_json, zip(frozen.ids, frozen.paths, strict=True))),
        "descriptors": digest(frozen.descriptors.tobytes().hex()),
        "rows_sha256": digest_of_file(rows),
        "thresholds": [SIMILARITY, EVIDENCE],
    }
    note = folder / f"leaks-{digest(asked)[:NAME_DIGITS]}.json"
    kept = _kept(note, asked)
    if kept is not None:
        return kept
    leaks = _compared(frozen, _images(rows, LEARNED))
    write_json(note, _note(asked, leaks))
    return leaks


def _note(asked: dict[str, Any], leaks: Leaks) -> dict[str, Any]:
    content = as_dict(leaks)
    return {"asked": asked, "leaks": content, "sha256": digest([asked, content])}


def _kept(note: Path, asked: dict[str, Any]) -> Leaks | None:
    """None where there is no note of this very question, or it was damaged."""
    document = read_json(note) or {}
    content = document.get("leaks")
    if document.get("asked") != asked or document.get("sha256") != digest([asked, content]):
        return None
    try:
        return from_json(Leaks, canonical_json(content))
    except ValidationError:
        return None


def _rows(folder: Path) -> Path:
    """The version's table, once its manifest is whole and its hash is right. Raises VersionError."""
    try:
        version = load_version(folder)
        expected = str((read_json(folder / MANIFEST) or {})["files"][ROWS]["sha256"])
    except (LookupError, TypeError, AttributeError) as error:
        raise VersionError(f"{folder / MANIFEST}: a version's manifest expected, {error!r}. {AGAIN}") from error
    rows = folder / ROWS
    found = digest_of_file(rows)
    if found != expected:
        raise VersionError(f"{rows}: SHA-256 {expected[:12]}… expected, {found[:12]} found. {AGAIN}")
    if version.id != folder.name:
        raise VersionError(
            f"{folder / MANIFEST}: the manifest of {folder.name} expected, {version.id}'s found. {AGAIN}"
        )
    return rows


def _images(rows: Path, sides: Sequence[Side]) -> _Images:
    wanted = pa.compute.field("side").isin([str(side) for side in sides])
    frame = pq.read_table(rows, columns=["image_id", "path", "side", DESCRIPTOR], filters=wanted).to_pandas()
    ids, paths, side = (frame[name].to_numpy(object) for name in ("image_id", "path", "side"))
    return _Images(ids, paths, side, unpack_descriptors(frame[DESCRIPTOR]))


def _compared(frozen: _Images, learned: _Images) -> Leaks:
    """For each leaking evaluation image its most similar learned one: the same pixels where there are such."""
    place = {image_id: at for at, image_id in enumerate(learned.ids)}
    exact = {at: (1.0, place[image_id]) for at, image_id in enumerate(frozen.ids) if image_id in place}
    pairs = near_duplicates(frozen.descriptors, learned.descriptors)
    near: dict[int, tuple[float, int]] = {}
    for at in np.lexsort((-pairs.second, pairs.similarity)):  # the most similar last, of equals the lowest position
        first, second = int(pairs.first[at]), int(pairs.second[at])
        if first not in exact:
            near[first] = (float(pairs.similarity[at]), second)
    found = sorted((exact | near).items(), key=lambda item: (-item[1][0], str(frozen.ids[item[0]])))
    named = (_pair(frozen, first, learned, second, similarity) for first, (similarity, second) in found[:MOST_PAIRS])
    return Leaks(len(learned), len(exact), len(near), tuple(named))


def _pair(frozen: _Images, first: int, learned: _Images, second: int, similarity: float) -> LeakPair:
    return LeakPair(
        evaluation_image=str(frozen.ids[first]),
        evaluation_path=str(frozen.paths[first]),
        learned_image=str(learned.ids[second]),
        learned_path=str(learned.paths[second]),
        side=str(learned.sides[second]),
        similarity=round(similarity, 6),
    )
