"""The frozen records that cross a border between rooms: ids, paths and numbers, never arrays, loaders or modules.

Every record goes to JSON by `to_json` and comes back by `from_json`, so it fits a manifest, the ledger, a Prefect
result and a file that a person reads.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from flywheel.identity import canonical_json

R = TypeVar("R")
PROBES_NAMED = 3  # of the failed ones, in a sentence


class Side(StrEnum):
    """Where an image stands in a dataset version. An image never changes side, whatever is added."""

    TRAIN = "train"
    VALIDATION = "validation"  # chooses the checkpoint
    REFERENCE = "reference"  # calibration and drift
    FROZEN = "frozen"  # judges; no training ever sees it
    DRIFTED = "drifted"  # judges under drift: labelled since, of a retraining's version alone
    UNUSED = "unused"  # left over by SUBSET: live traffic of rehearsals


class Verdict(StrEnum):
    """Missing, NaN, empty or crashed is never a pass."""

    PASS = "pass"
    FAIL = "fail"
    NOT_ENOUGH_EVIDENCE = "not enough evidence"


class Severity(StrEnum):
    CRITICAL = "critical"  # stops the flow before training
    WARNING = "warning"  # is reported and goes on


@dataclass(frozen=True)
class Interval:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Source:
    """A folder of class folders, ready to be indexed."""

    name: str  # digits, cifar10, or the folder's own name made safe
    folder: Path
    origin: str  # what the user asked for, in words: a path, "digits", "auto"
    note: str = ""  # why this source, where `auto` chose it


@dataclass(frozen=True)
class ImageIndex:
    """One row an image of a source, as Parquet; columns are `flywheel.data.index.COLUMNS`."""

    id: str  # idx-…: the hash of its rows
    path: Path
    source: Source
    images: int  # rows, the undecodable ones included
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ExpectationResult:
    """What one expectation found."""

    expectation: str  # expect_column_values_to_be_between
    subject: str  # the column, or "table"
    description: str
    severity: Severity
    success: bool
    observed: str
    unexpected_count: int
    unexpected_rows: tuple[int, ...] = ()  # positions in the table that was validated; row-level expectations only
    examples: tuple[str, ...] = ()  # the first offending files
    next_step: str = ""  # what a user can do about it


@dataclass(frozen=True)
class ValidationResult:
    """What a suite found on one index or dataset version."""

    suite: str
    subject: str  # idx-… or ds-…
    results: tuple[ExpectationResult, ...]
    docs: Path | None = None  # the Data Docs page

    def failed(self, severity: Severity) -> tuple[ExpectationResult, ...]:
        return tuple(result for result in self.results if result.severity is severity and not result.success)

    @property
    def passed(self) -> bool:
        """No critical expectation failed, and there was at least one."""
        return bool(self.results) and not self.failed(Severity.CRITICAL)


@dataclass(frozen=True)
class DatasetVersion:
    """A content-addressed folder of packed images; its manifest is the truth about it."""

    id: str  # ds-…
    folder: Path
    source: str
    index_id: str
    classes: tuple[str, ...]
    counts: dict[str, int]  # by side
    size: int  # pixels a side, packed uint8[N, size, size, 3]
    filter: str  # the resampling filter that packed them
    evaluation_set_id: str  # evalset-… of the frozen side
    quarantined: int = 0
    left_out: int = 0  # training-side copies of images on another side
    left_out_list: Path | None = None  # CSV: which, and of which image, for the index that was asked for
    elsewhere: int = 0  # images of the source's own test/ or val/ that kept another side, of an earlier version
    elsewhere_list: Path | None = None  # CSV: which, for the index that was asked for
    task_id: str = ""  # task-…: the hash of the class list
    extends: str = ""  # ds-…: the version that a retraining's goes on from
    drifted_set_id: str = ""  # evalset-… of the drifted side, where there is one

    def evaluation_set(self, side: Side) -> str:
        """The set that judges on a side; empty where there is none."""
        return {Side.FROZEN: self.evaluation_set_id, Side.DRIFTED: self.drifted_set_id}.get(side, "")


@dataclass(frozen=True)
class Preprocessing:
    """Decoded uint8[H, W, 3] → the network's input; the one description that training, evaluation and service share."""

    size: int
    filter: str
    mean: tuple[float, float, float]  # of pixels in 0..1
    std: tuple[float, float, float]


@dataclass(frozen=True)
class InitialWeights:
    """The file of weights that a training begins with."""

    file: Path  # safetensors
    sha256: str
    origin: str  # in words: the file's name, or the hub's repository and revision
    preprocessing: Preprocessing | None  # of the images that they were trained on; None where nothing says it


@dataclass(frozen=True)
class TrainedModel:
    """A model folder; its manifest `model.json` is the truth about it."""

    id: str  # model-…
    folder: Path
    dataset_id: str
    task_id: str
    architecture: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    parameters: int
    seed: int
    threads: int
    device: str
    epochs: int
    best_epoch: int
    top1_validation: float | None  # None where the dataset version has no validation side
    weights_sha256: str
    train_seconds: float
    images_per_second: float
    temperature: float = 1.0  # logits are divided by it; fitted on the reference side
    wandb_run: str = ""  # the offline run's folder, to sync later
    stem: str = "stock"  # "small": the first layers were changed for small images
    initial_weights: str = ""  # where its first weights came from; empty: drawn by the seed
    both_sides: bool = False  # it answers with the mean over an image and its mirror image


@dataclass(frozen=True)
class ClassResult:
    label: str
    images: int
    recall: Interval
    precision: float


@dataclass(frozen=True)
class Evaluation:
    """A model measured on one evaluation set; the per-image logits lie in its folder."""

    id: str  # eval-…
    folder: Path  # reports/<id>
    model_id: str
    dataset_id: str
    evaluation_set_id: str
    role: str  # frozen, drifted
    images: int
    top1: Interval
    majority_rate: float  # the share of the most common class: what a constant answer scores
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted]
    ece: float  # expected calibration error, 15 equal-width bins
    nll: float  # nats an image
    images_per_second: float
    correct_sha256: str = ""  # of the per-image results file
    remade: str = ""  # where an earlier record was found changed: when, and what was wrong with it


@dataclass(frozen=True)
class RulePart:
    """One of the many things that a rule looked at, as a slice is."""

    name: str
    images: int
    value: float | None
    interval: Interval | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class RuleResult:
    """One rule of a gate: what was measured, what was asked, and why it ended so."""

    rule: str
    value: float | None
    threshold: float | None
    verdict: Verdict
    reason: str
    interval: Interval | None = None
    parts: tuple[RulePart, ...] = ()


class PromotesAs(StrEnum):
    """On what ground a model that passed may become champion."""

    FIRST = "first"  # the floors alone judged: the task had no champion
    SUPERIOR = "superior"
    NON_INFERIOR = "non-inferior"


@dataclass(frozen=True)
class GateVerdict:
    """A decision of kind "gate", recorded in the ledger."""

    id: str  # dec-…
    model_id: str
    task_id: str
    evaluation_id: str
    evaluation_set_id: str
    champion_id: str | None
    verdict: Verdict
    rules: tuple[RuleResult, ...]
    reason: str
    anchor_id: str | None = None  # the last model that was promoted as superior
    promotes_as: PromotesAs | None = None  # None: it may not


@dataclass(frozen=True)
class PackagedBento:
    """A Bento in the project's own store."""

    tag: str  # classifier:<version>
    model_tag: str
    model_id: str
    folder: Path
    smoke_test: str  # how the served Bento answered, in words; empty where it was not served yet


@dataclass(frozen=True)
class ProbeResult:
    """One file, sent to the served Bento."""

    name: str
    difference: float | None  # the largest of a logit from the trained model's; None where no answer can be compared
    problem: str = ""  # why none can


def _apart(difference: float | None) -> str:
    return "no answer" if difference is None else f"{difference:.2g} apart"


@dataclass(frozen=True)
class Parity:
    """Whether a Bento, served, gives the trained model's logits on the same bytes."""

    bento_tag: str
    model_id: str
    tolerance: float  # of a logit
    probes: tuple[ProbeResult, ...]
    probes_sha256: str  # of the files that were sent and the pixels that they show
    served_sha256: str  # of the Bento's and its model's files, and the trained model's weights
    problem: str = ""  # why the Bento could not be asked: it did not start, it was lost

    @property
    def largest(self) -> float | None:
        """The largest difference of any probe; None where none could be compared."""
        return max((probe.difference for probe in self.probes if probe.difference is not None), default=None)

    @property
    def failed(self) -> tuple[ProbeResult, ...]:
        """The probes that have no comparable answer or differ by more than the tolerance; NaN does."""
        return tuple(
            probe
            for probe in self.probes
            if probe.problem or probe.difference is None or not probe.difference <= self.tolerance
        )

    @property
    def passed(self) -> bool:
        """Every probe was answered within the tolerance, and there was at least one."""
        return bool(self.probes) and not self.problem and not self.failed

    @property
    def summary(self) -> str:
        """In one sentence, for a gate's reason and a person."""
        if self.passed:
            return f"{len(self.probes)} of {len(self.probes)} probes within {self.largest:.0g} of the model in process."
        if self.problem or not self.probes:
            return f"The Bento could not be compared: {self.problem or 'it was sent no probe.'}"
        named = self.failed[:PROBES_NAMED]
        told = [f"{probe.name} ({probe.problem or _apart(probe.difference)})" for probe in named]
        more = len(self.failed) - len(told)
        return (
            f"{len(self.failed)} of {len(self.probes)} probes are not within {self.tolerance:g} of the model in "
            f"process: {', '.join(told)}{f' and {more} more' if more else ''}."
        )


@dataclass(frozen=True)
class Release:
    """What `release-classifier` did with a Bento."""

    decision_id: str
    model_id: str
    task_id: str
    bento_tag: str
    promoted: bool
    champion_id: str | None  # the champion after it
    previous_id: str | None
    reason: str


@dataclass(frozen=True)
class PreparedData:
    """A dataset version that passed its suites, with what it came from: the first validation is the index's."""

    source: Source
    index: ImageIndex
    dataset: DatasetVersion
    validations: tuple[ValidationResult, ...]


@dataclass(frozen=True)
class TrainingOutcome:
    """What `train-classifier` leaves."""

    data: PreparedData
    model: TrainedModel
    evaluation: Evaluation
    gate: GateVerdict
    bento: PackagedBento
    report: Path
    seconds: dict[str, float] = field(default_factory=dict)  # wall time by stage


def to_json(record: Any) -> str:
    """Canonical JSON of any record here; paths become text, tuples lists."""
    return canonical_json(TypeAdapter(type(record)).dump_python(record, mode="json"))


def from_json(kind: type[R], text: str | bytes) -> R:
    """The record again. Raises pydantic.ValidationError when a field is missing or of another type."""
    return TypeAdapter(kind).validate_json(text)


def as_dict(record: Any) -> dict[str, Any]:
    """The record as plain JSON types, to stand inside a larger document."""
    return dict(TypeAdapter(type(record)).dump_python(record, mode="json"))
