"""How often the model is right on a window without labels, as an interval, and where labels came in, as they say.

A ridge regression on what the window shows, fitted on corrupted copies of the model's own labelled reference. It is 0
at what unchanged images show and has no negative weight: where nothing moved nothing is lost, and more movement never
costs less.
What a corruption costs is counted on the same images before and after it, so the luck of the few images that are
corrupted is no part of what is learned.

Its interval is conformal over *families* of corruption: each family is left out in turn, its 90 % quantile of the
errors is taken, and the largest of these is the half-width (hierarchical, after Lee, Barber and Willett 2023,
"Distribution-free inference with hierarchical data"). What the world does next is a new family, not a new window of one
that was seen. Where K families are exchangeable with it, its own quantile lies within with a chance of K / (K + 1):
that 90 % of windows are covered is measured, not proven. Beside it stand the chance that lies in the window's number of
images, and that in the reference's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import norm

from flywheel.evaluation.statistics import wilson
from flywheel.monitoring.estimators import Floats, Yardstick, atc, doc, features
from flywheel.monitoring.sample import Sample
from flywheel.records import Interval

COVERAGE = 0.9
UNCHANGED = "nothing"  # the family of windows to which nothing was done
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the ridge, a row
SMALLEST_SPREADS = (0.03, 0.06, 0.12, 0.25, 0.5)  # errors are measured against one of these plus the estimated loss


@dataclass(frozen=True)
class Tried:
    """One window of known accuracy."""

    family: str
    features: Floats  # [4]
    lost: float  # accuracy, against the same images before


@dataclass(frozen=True)
class Regressor:
    """Features → accuracy lost, and how wrong that was on families that it had not seen."""

    unmoved: Floats  # [4], what images show that nothing was done to
    weights: Floats  # [4], none of them negative
    width: float  # of the interval's half, in units of `spread`
    smallest_spread: float
    penalty: float

    def predict(self, found: Floats) -> Floats:
        lost: Floats = (found - self.unmoved) @ self.weights
        return lost


@dataclass(frozen=True)
class AccuracyEstimate:
    """All shares of images. The interval is of 90 %."""

    value: float
    low: float
    high: float
    reference: float  # the accuracy on the reference
    lost: float  # reference - value
    lost_low: float
    lost_high: float
    estimators: dict[str, float]  # accuracy by each alone


def fit_regressor(tried: Sequence[Tried]) -> Regressor:
    """Raises ValueError for fewer than two families, or without windows to which nothing was done."""
    families = sorted({each.family for each in tried} - {UNCHANGED})
    nothing = [each.features for each in tried if each.family == UNCHANGED]
    if len(families) < 2 or not nothing:
        raise ValueError(
            "Two families of windows or more and unchanged ones expected, "
            f"{len(families)} and {len(nothing):,} windows found."
        )
    unmoved = np.mean(nothing, axis=0)
    rows = np.stack([each.features for each in tried]) - unmoved
    lost = np.array([each.lost for each in tried])
    member = np.array([families.index(each.family) if each.family in families else -1 for each in tried])
    errors = {penalty: _left_out(rows, lost, member, penalty) for penalty in PENALTIES}
    penalty = min(errors, key=lambda one: float(np.abs(errors[one][0]).mean()))
    missed, guessed = errors[penalty]
    smallest, width = _narrowest(missed, guessed, member)
    return Regressor(unmoved, _ridge(rows, lost, penalty), width, smallest, penalty)


def spread(smallest: float, lost: Floats) -> Floats:
    """A large loss is estimated worse than a small one; how much worse is the model's own."""
    return np.asarray(smallest + np.maximum(lost, 0))


def _narrowest(missed: Floats, guessed: Floats, member: NDArray[np.int64]) -> tuple[float, float]:
    """The smallest spread whose intervals are the narrowest by their geometric mean, by which those of small losses
    count as much as those of large ones; and their width in units of it."""
    found = []
    for smallest in SMALLEST_SPREADS:
        units = spread(smallest, guessed)
        relative = np.abs(missed) / units
        width = max(float(np.quantile(relative[member == place], COVERAGE)) for place in range(member.max() + 1))
        found.append((width * float(np.exp(np.log(units).mean())), smallest, width))
    _, smallest, width = min(found)
    return smallest, width


def estimate(regressor: Regressor, reference: Yardstick, window: Sample) -> AccuracyEstimate:
    """Of a window's own images, so the chance that lies in their number is part of the interval."""
    (lost,) = regressor.predict(features(reference, window)[None])
    value = min(1.0, max(0.0, reference.accuracy - float(lost)))
    (unsure,) = regressor.width * spread(regressor.smallest_spread, np.array([reference.accuracy - value]))
    alone = {"regressor": value, "ATC": atc(reference, window), "DoC": doc(reference, window)}
    below, above = _chance(reference.accuracy, reference.images)
    errors = hypot(float(unsure), below), hypot(float(unsure), above)
    return _around(value, reference.accuracy, errors, len(window), alone)


def of_value(value: float, error: float, other: AccuracyEstimate, images: int, estimator: str) -> AccuracyEstimate:
    """Another estimator's value, of this standard deviation, in the place of the regressor's."""
    reach = float(norm.ppf((1 + COVERAGE) / 2)) * error
    return _around(value, other.reference, (reach, reach), images, {**other.estimators, estimator: value})


def _chance(share: float, images: int) -> tuple[float, float]:
    """How far it may lie off in so many images, below and above: by Wilson's interval, which a share of 1 has too."""
    found = wilson(round(share * images), images, COVERAGE)
    return found.value - found.low, found.high - found.value


def _around(
    value: float, reference: float, errors: tuple[float, float], images: int, estimators: dict[str, float]
) -> AccuracyEstimate:
    """Independent errors add up by their squares, on each side (as in Newcombe 1998)."""
    below, above = _chance(value, images)
    low, high = max(0.0, value - hypot(errors[0], below)), min(1.0, value + hypot(errors[1], above))
    return AccuracyEstimate(
        value=value,
        low=low,
        high=high,
        reference=reference,
        lost=reference - value,
        lost_low=reference - high,
        lost_high=reference - low,
        estimators=estimators,
    )


def accuracy_of_labels(correct: NDArray[np.bool_]) -> Interval | None:
    """With its 95 % interval; None where no label came in."""
    return wilson(int(correct.sum()), len(correct)) if len(correct) else None


def _left_out(rows: Floats, lost: Floats, member: NDArray[np.int64], penalty: float) -> tuple[Floats, Floats]:
    """Errors and guesses of all windows, each by a fit without its family; unchanged ones are in every fit."""
    guessed = np.zeros(len(lost))
    for family in np.unique(member[member >= 0]):
        here = member == family
        guessed[here] = rows[here] @ _ridge(rows[~here], lost[~here], penalty)
    return guessed - lost, guessed


def _ridge(rows: Floats, lost: Floats, penalty: float) -> Floats:
    """Without negative weights: least squares with a row a feature that pulls its weight to 0."""
    scale = np.maximum(np.sqrt((rows**2).mean(0)), 1e-9)
    pulled = np.vstack([rows / scale, sqrt(penalty) * np.eye(rows.shape[1])])
    weights, _ = nnls(pulled, np.append(lost, np.zeros(rows.shape[1])))
    found: Floats = weights / scale
    return found
