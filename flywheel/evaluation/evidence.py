"""All that a gate decides on, as one record: numbers, identities and, where something could not be measured, why not.

It is recorded with the decision, so that the same policy decides the same again, and another policy can be tried on it.
"""

from dataclasses import dataclass, replace

from flywheel.evaluation.spending import Use
from flywheel.records import Evaluation, Interval


@dataclass(frozen=True)
class PairedCounts:
    """Images by which of two models got them right."""

    both: int
    only_challenger: int
    only_other: int
    neither: int

    @property
    def images(self) -> int:
        return self.both + self.only_challenger + self.only_other + self.neither

    @property
    def difference(self) -> float:
        """Top-1 of the challenger minus the other's; NaN of no image."""
        return (self.only_challenger - self.only_other) / self.images if self.images else float("nan")


@dataclass(frozen=True)
class Comparison:
    """The challenger against another model on the same images."""

    model_id: str  # the other one
    evaluation_id: str
    counts: PairedCounts


@dataclass(frozen=True)
class SliceCounts:
    """A part of the compared images."""

    name: str  # "class cat", "darkest third"
    counts: PairedCounts


@dataclass(frozen=True)
class RobustnessEvidence:
    """Mean accuracy under corruptions of a fixed part of the frozen set."""

    images: int
    corruptions: int  # kinds times severities
    challenger: Interval
    champion: Interval
    difference: Interval  # challenger minus champion, paired by image


@dataclass(frozen=True)
class CostEvidence:
    """What an answer costs, as a ratio to the champion, measured in turns in one process."""

    latency_ratio: Interval
    size_ratio: float
    latency_ms: float  # of one image, on this machine


@dataclass(frozen=True)
class LeakEvidence:
    """Evaluation images on the sides that a model learned from."""

    images_checked: int
    exact: int
    near: int
    examples: tuple[str, ...] = ()  # in words, the first of them


@dataclass(frozen=True)
class ParityEvidence:
    """The served Bento against the model in this process, on the same bytes."""

    bento_tag: str
    probes: int
    failed: tuple[str, ...]  # in words, those beyond the tolerance or without an answer
    largest: float | None  # difference of a logit; None where a probe got no answer
    tolerance: float


@dataclass(frozen=True)
class DriftedEvidence:
    """The challenger against the champion on images that were labelled under drift, and that neither learned from."""

    evaluation_set_id: str
    champion: Comparison
    earlier: int  # challengers that were judged so against this champion before


@dataclass(frozen=True)
class GateEvidence:
    """What was measured of a challenger, its champion and its anchor. A missing part has its reason in `problems`."""

    task_id: str
    challenger: Evaluation  # without its confusion matrix, which no rule reads
    champion_id: str | None = None
    anchor_id: str | None = None
    champion: Comparison | None = None
    anchor: Comparison | None = None
    uses: tuple[Use, ...] | None = None  # of the same images, before this one
    set_aside: tuple[str, ...] = ()  # evaluation sets whose images were left out, their budget being spent
    slices: tuple[SliceCounts, ...] = ()
    ece: Interval | None = None
    robustness: RobustnessEvidence | None = None
    cost: CostEvidence | None = None
    leaks: LeakEvidence | None = None
    parity: ParityEvidence | None = None
    drifted: DriftedEvidence | None = None  # of a retraining alone
    problems: dict[str, str] | None = None  # by part: why it is missing

    def problem(self, part: str) -> str:
        return (self.problems or {}).get(part, "it was not measured")


def light(evaluation: Evaluation) -> Evaluation:
    """Without the confusion matrix: megabytes at 1,000 classes."""
    return replace(evaluation, confusion=())
