"""What a policy can tell apart, before anything is trained: the exact power of a gate's two tests, by enumeration.

Of n images the two models differ in correctness on a binomial number D, and of those the challenger has a binomial
share. The tests are monotone in that share, so each D has one critical count, and both powers are sums over D.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from flywheel.evaluation.spending import Outcome, Spending, Use, next_comparison
from flywheel.evaluation.statistics import score
from flywheel.policies import GatePolicy

WANTED_POWER = 0.8
NEGLIGIBLE = 1e-9  # of D's distribution, each side, where no level far below it is looked at
MOST_IMAGES = 100_000_000

Critical = Callable[[NDArray[np.int64]], NDArray[np.int64]]  # by D: how many of it the challenger must win


@dataclass(frozen=True)
class PlannedGate:
    """One gate of a plan."""

    number: int
    promotions: int  # before it
    alpha: float
    non_inferior: float  # power for an equal challenger
    superior: float  # power for a challenger that is better by the margin


def noninferiority_power(
    images: int, disagreement: float, gain: float, margin: float, alpha: float, negligible: float = NEGLIGIBLE
) -> float:
    """The chance of showing "not worse by the margin" for a challenger whose true gain is this.

    A negative margin asks for more: "better by so much".
    """
    critical = _critical_of_noninferiority(images, margin, alpha)
    return _power(images, disagreement, gain, critical, negligible=negligible)


def noninferiority_miss(
    images: int, disagreement: float, gain: float, margin: float, alpha: float, negligible: float = NEGLIGIBLE
) -> float:
    """The chance of not showing it: one minus the power, but exact where that is next to nothing."""
    critical = _critical_of_noninferiority(images, margin, alpha)
    return _power(images, disagreement, gain, critical, tail=binom.cdf, negligible=negligible)


def superiority_power(images: int, disagreement: float, gain: float, alpha: float) -> float:
    """The chance of showing "better" for a challenger whose true gain is this."""

    def critical(differing: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(binom.isf(alpha, differing, 0.5) + 1, np.int64)

    return _power(images, disagreement, gain, critical) if alpha > 0 else 0.0


def expected_disagreement(policy: GatePolicy, champion_top1: float | None = None) -> float:
    """How often an equal challenger is expected to differ: as the policy says, but no more often than the champion
    errs (two models that err independently differ twice as often, and models of one task don't err independently)."""
    if champion_top1 is None:
        return policy.disagreement
    return min(policy.disagreement, max(1 - champion_top1, 1e-3))


def equal_challenger_power(images: int, spending: Spending, policy: GatePolicy, disagreement: float) -> float:
    """The chance that this gate's comparison passes an equal challenger as non-inferior."""
    if images < 1:
        return 0.0
    return noninferiority_power(images, disagreement, 0.0, policy.margin, spending.alpha)


def images_needed(spending: Spending, policy: GatePolicy, disagreement: float, power: float = WANTED_POWER) -> int:
    """The fewest images, to 2 %, at which this gate passes an equal challenger with that power."""
    low, high = 1, 64
    while equal_challenger_power(high, spending, policy, disagreement) < power:
        low, high = high, high * 2
        if high > MOST_IMAGES:
            return MOST_IMAGES
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        reached = equal_challenger_power(middle, spending, policy, disagreement) >= power
        low, high = (low, middle) if reached else (middle, high)
    return high


def margin_needed(images: int, spending: Spending, disagreement: float, power: float = WANTED_POWER) -> float | None:
    """The smallest margin, to a tenth of a point, at which it does; None where half of all images is not enough."""
    most = 500
    if noninferiority_power(images, disagreement, 0.0, most / 1000, spending.alpha) < power:
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        enough = noninferiority_power(images, disagreement, 0.0, middle / 1000, spending.alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high / 1000


def gates_allowed(images: int, policy: GatePolicy, disagreement: float, power: float = WANTED_POWER) -> int:
    """The largest plan whose last gate, nothing promoted before it, still has that power; 0 where not even one has."""
    allowed, most = 0, 1
    while most <= 4096 and _last_power(images, policy, disagreement, most) >= power:
        allowed, most = most, most * 2
    low, high = allowed, most
    while high - low > 1:
        middle = (low + high) // 2
        enough = _last_power(images, policy, disagreement, middle) >= power
        low, high = (middle, high) if enough else (low, middle)
    return low


def plan(images: int, policy: GatePolicy, promotions: int = 0) -> tuple[PlannedGate, ...]:
    """Every planned gate after so many promotions as superior, which come first."""
    return tuple(
        _planned(images, policy, number, promotions) for number in range(1 + promotions, policy.planned_gates + 1)
    )


def history(number: int, promotions: int) -> list[Use]:
    """The uses before a gate: a first model that passed, then promotions as superior, then none."""
    first = Use(compared=False, outcome=Outcome.SUPERIOR)
    promoted = [Use(compared=True, outcome=Outcome.SUPERIOR)] * promotions
    return [first, *promoted, *[Use(compared=True, outcome=Outcome.STAYS)] * (number - 1 - promotions)]


def _planned(images: int, policy: GatePolicy, number: int, promotions: int) -> PlannedGate:
    spending = next_comparison(history(number, promotions), policy)
    return PlannedGate(
        number=number,
        promotions=promotions,
        alpha=spending.alpha,
        non_inferior=equal_challenger_power(images, spending, policy, policy.disagreement),
        # a model that is better by the margin differs on so many images at least
        superior=superiority_power(images, max(policy.disagreement, policy.margin), policy.margin, spending.alpha),
    )


def _last_power(images: int, policy: GatePolicy, disagreement: float, planned: int) -> float:
    other = policy.model_copy(update={"planned_gates": planned})
    return equal_challenger_power(images, next_comparison(history(planned, 0), other), other, disagreement)


def _critical_of_noninferiority(images: int, margin: float, alpha: float) -> Critical:
    threshold = -NormalDist().inv_cdf(alpha) if 0 < alpha < 1 else np.inf

    def critical(differing: NDArray[np.int64]) -> NDArray[np.int64]:
        return _first_that(lambda mine: score(mine, differing - mine, images, -margin) >= threshold, differing)

    return critical


def _power(
    images: int,
    disagreement: float,
    gain: float,
    critical: Critical,
    *,
    tail: Callable[..., NDArray[np.float64]] = binom.sf,
    negligible: float = NEGLIGIBLE,
) -> float:
    """Σ P(D) · P(challenger's share of D reaches its critical count); with the other tail, that it does not."""
    if not abs(gain) <= disagreement <= 1:
        raise ValueError(
            f"A gain of {gain} needs a disagreement of at least that, and at most 1; {disagreement} given."
        )
    # the far end by the images on which they agree: scipy's isf loses it where almost nothing is negligible
    lowest, agreeing = (int(binom.ppf(negligible, images, share)) for share in (disagreement, 1 - disagreement))
    differing = np.arange(lowest, images - agreeing + 1)
    share = (disagreement + gain) / (2 * disagreement)
    reaches = tail(critical(differing) - 1, differing, share)
    return float((binom.pmf(differing, images, disagreement) * reaches).sum())


def _first_that(holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]], most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elementwise, the smallest whole number in 0..most for which a monotone condition holds; most + 1 where none."""
    low, high = np.zeros_like(most), most + 1
    while (low < high).any():
        middle = np.minimum((low + high) // 2, high - 1)
        good = holds(middle) & (low < high)
        high = np.where(good, middle, high)
        low = np.where(good | (low >= high), low, middle + 1)
    return low
