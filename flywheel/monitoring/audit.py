"""What labels tell of a loss that no estimate could, as soon as they tell it: asked again after every label that comes.

Images are drawn at random after an alarm and labelled. Two nulls are bet against, "no more is lost than the line
allows" and "no less is lost than that", each by a mixture of likelihood ratios over all accuracies on the other side of
the line (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"). Each is a supermartingale
under its null, so by Ville's inequality (1939) it ever reaches 1 / α with probability α at most, however often it is
looked at and whenever one stops. The reference's own chance counts against both. A loss near the line is never told.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import exp, log, log1p

from scipy.special import betainc, betaln

from flywheel.records import Interval

LEVEL = 0.05  # of each of the two
LARGEST = 700.0  # logarithm of the evidence that is told


class Finding(StrEnum):
    """What the labels say of the loss."""

    HARMFUL = "more is lost than the line allows"
    HARMLESS = "less is lost than the line"
    OPEN = "too few labels to tell"


@dataclass(frozen=True)
class Audit:
    """Labels of images that were drawn at random after an alarm."""

    labels: int
    right: int
    harmful: float  # evidence against "no more is lost than the line allows"
    harmless: float  # against "no less is lost"
    finding: Finding

    @property
    def threshold(self) -> float:
        return 1 / LEVEL


def audit(right: int, labels: int, reference: Interval, largest_loss: float) -> Audit:
    """`reference` is the accuracy on the reference with its interval. Raises ValueError for more right than labels."""
    if not 0 <= right <= labels:
        raise ValueError(f"{right} right of {labels} labels: 0 ≤ right ≤ labels is expected.")
    harmful = _evidence_of_less(right, labels, reference.low - largest_loss)
    harmless = _evidence_of_less(labels - right, labels, 1 - (reference.high - largest_loss))
    finding = Finding.OPEN
    if max(harmful, harmless) >= 1 / LEVEL:
        finding = Finding.HARMFUL if harmful > harmless else Finding.HARMLESS
    return Audit(labels, right, harmful, harmless, finding)


def _evidence_of_less(successes: int, trials: int, share: float) -> float:
    """That successes are rarer than `share`: the mean likelihood of all rarer ones, over that of `share` itself."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 1.0 if successes == trials else exp(LARGEST)
    failures = trials - successes
    within = float(betainc(successes + 1, failures + 1, share))
    if within == 0:  # too small for a number, and no evidence at all
        return 0.0
    mixed = float(betaln(successes + 1, failures + 1)) + log(within) - log(share)
    return exp(min(LARGEST, mixed - successes * log(share) - failures * log1p(-share)))
