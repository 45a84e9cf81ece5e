"""Whether a canary may take the champion's place, asked again at every look of its trial.

A harm is shown, or excluded, by a confidence sequence of the difference of both arms: all intervals of all looks hold
together, so a challenger that is within every tolerance is rolled back as harmful with a probability of the level at
most, and one that is beyond any is promoted as shown harmless as seldom, however often one looks. What neither shows
until the trial's end is the policy's to decide, as the gate has passed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Literal

from flywheel.evaluation.confidence_sequence import Floats, difference, evidence_of_mean, evidence_of_share
from flywheel.policies import CanaryPolicy

Step = Literal["promote", "roll back", "go on"]
Finding = Literal["harm", "fine", "open"]

FAILURES, SLOW, CONFIDENCE, ACCURACY = "failed requests", "slow answers", "lost confidence", "lost accuracy"
MEASURES = (FAILURES, SLOW, CONFIDENCE, ACCURACY)
RARE, ANY = (0.3, 10.0), (0.5, 0.5)  # beta priors: failures are rare where nothing is wrong
ROUNDING = 1e-6  # of sums of 32-bit numbers, a value


@dataclass(frozen=True)
class Arm:
    """What one of the two did since the trial began; all are counts or sums over its answers."""

    answers: int  # that it gave; failures are not among them
    failures: int  # requests that ended in a 5xx, or were given back to the champion
    slow: int  # answers that took longer than a bound that was set before the trial
    confidence_sum: float  # of the calibrated probability of the class that was answered
    confidence_squares: float
    labelled: int
    right: int  # of the labelled ones
    confidences: int | None = None  # answers whose confidence is in the sums; None: all

    @property
    def requests(self) -> int:
        return self.answers + self.failures

    @property
    def summed(self) -> int:
        return self.answers if self.confidences is None else self.confidences

    @property
    def is_finite(self) -> bool:
        return isfinite(self.confidence_sum) and isfinite(self.confidence_squares)


@dataclass(frozen=True)
class Measure:
    """One way of being worse: the share or mean of both arms, and how much worse the challenger is."""

    name: str
    champion: float | None  # None where there is nothing to count
    challenger: float | None
    difference: float | None  # positive where the challenger is worse
    low: float  # the interval, which holds at all looks together
    high: float
    tolerance: float
    verdict: Finding


@dataclass(frozen=True)
class CanaryVerdict:
    """What is to be done now, and why."""

    verdict: Step
    reason: str
    measures: tuple[Measure, ...]


def judge_canary(champion: Arm, challenger: Arm, policy: CanaryPolicy, seconds: float) -> CanaryVerdict:
    """One look, so many seconds after the trial began. Raises ValueError for counts that can't be."""
    for name, arm in (("champion", champion), ("challenger", challenger)):
        if not arm.is_finite:
            return CanaryVerdict("roll back", f"The {name} answered with what is no number.", ())
        _demand_possible(name, arm)
    measures = tuple(_measures(champion, challenger, policy))
    verdict, reason = _decided(measures, champion, challenger, policy, seconds)
    return CanaryVerdict(verdict, reason, measures)


def _measures(champion: Arm, challenger: Arm, policy: CanaryPolicy) -> Iterator[Measure]:
    """The level is split evenly over all that may be measured."""
    yield _of_shares(
        *(FAILURES, RARE, policy.largest_failure_increase, policy.level),
        *((champion.failures, champion.requests), (challenger.failures, challenger.requests)),
    )
    yield _of_shares(
        *(SLOW, ANY, policy.largest_slow_increase, policy.level),
        *((champion.slow, champion.answers), (challenger.slow, challenger.answers)),
    )
    yield _of_confidence(champion, challenger, policy)
    wrong = [(arm.labelled - arm.right, arm.labelled) for arm in (champion, challenger)]
    if all(labelled for _, labelled in wrong):
        yield _turned(_of_shares(ACCURACY, ANY, policy.largest_accuracy_loss, policy.level, *wrong))


def _of_shares(
    name: str,
    prior: tuple[float, float],
    tolerance: float,
    level: float,
    champion: tuple[int, int],
    challenger: tuple[int, int],
) -> Measure:
    """Of what is counted against an arm: how often, of how many."""
    rates = [count / trials if trials else None for count, trials in (champion, challenger)]
    evidence = [evidence_of_share(*counted, prior) for counted in (champion, challenger)]
    return _measure(name, rates[0], rates[1], evidence[0], evidence[1], tolerance, level)


def _of_confidence(champion: Arm, challenger: Arm, policy: CanaryPolicy) -> Measure:
    """In terms of doubt, which a worse challenger has more of."""
    rates, evidence = [], []
    for arm in (champion, challenger):
        count, total, squares = arm.summed, arm.confidence_sum, arm.confidence_squares
        rates.append((count - total) / count if count else None)
        evidence.append(evidence_of_mean(count - total, count - 2 * total + squares, count))
    tolerance = policy.largest_confidence_loss
    return _turned(_measure(CONFIDENCE, rates[0], rates[1], evidence[0], evidence[1], tolerance, policy.level))


def _measure(
    name: str,
    champion: float | None,
    challenger: float | None,
    of_champion: Floats,
    of_challenger: Floats,
    tolerance: float,
    level: float,
) -> Measure:
    low, high = difference(of_challenger, of_champion, level / len(MEASURES))
    apart = None if champion is None or challenger is None else challenger - champion
    found: Finding = "harm" if low > tolerance else "fine" if high < tolerance else "open"
    return Measure(name, champion, challenger, apart, low, high, tolerance, found)


def _turned(measure: Measure) -> Measure:
    """Told as confidence and accuracy, where it was counted as doubt and errors."""
    champion, challenger = (None if rate is None else 1 - rate for rate in (measure.champion, measure.challenger))
    told = (measure.difference, measure.low, measure.high, measure.tolerance, measure.verdict)
    return Measure(measure.name, champion, challenger, *told)


def _decided(
    measures: tuple[Measure, ...], champion: Arm, challenger: Arm, policy: CanaryPolicy, seconds: float
) -> tuple[Step, str]:
    harmful = [measure for measure in measures if measure.verdict == "harm"]
    if harmful:
        return "roll back", f"The challenger does harm: {_listed(harmful)}."
    asked = [measure for measure in measures if measure.name != ACCURACY or _labels(champion, challenger, policy)]
    enough = min(champion.answers, challenger.answers) >= policy.fewest_answers
    waits = [measure for measure in measures if measure in asked or _seems_worse(measure)]
    if enough and all(measure.verdict == "fine" for measure in waits):
        return "promote", f"No harm beyond what is tolerated, after {challenger.answers:,} answers: {_listed(asked)}."
    so_far = f"after {challenger.requests:,} of its requests in {seconds:,.0f} s"
    still_open = [measure for measure in waits if measure.verdict == "open"]
    undecided = f"undecided {so_far}: {_listed(still_open)}" if still_open else f"no harm {so_far}"
    if challenger.requests < policy.most_answers and seconds < policy.longest_seconds:
        return "go on", f"{undecided[:1].upper()}{undecided[1:]}."
    if not enough:
        few = f"{champion.answers:,} answers of the champion and {challenger.answers:,} of the challenger"
        return "roll back", f"{few} are too few to promote on, {policy.fewest_answers:,} of each are asked."
    worse = [measure for measure in asked if _seems_worse(measure)]
    if worse:
        return "roll back", f"The trial ended undecided, with more harm seen than is tolerated: {_listed(worse)}."
    why = "the gate passed, and the policy promotes" if policy.undecided == "promote" else "the policy rolls back"
    return policy.undecided, f"The trial ended {undecided}. Then {why}."


def _labels(champion: Arm, challenger: Arm, policy: CanaryPolicy) -> bool:
    """Whether a promotion waits for what labels say. Fewer hold it up only while they speak against it."""
    return min(champion.labelled, challenger.labelled) >= policy.fewest_labels


def _seems_worse(measure: Measure) -> bool:
    return measure.difference is not None and measure.difference > measure.tolerance


def _listed(measures: list[Measure]) -> str:
    return "; ".join(map(_told, measures))


def _told(measure: Measure) -> str:
    rates = [f"{rate:.1%}" if rate is not None else "none" for rate in (measure.champion, measure.challenger)]
    name = measure.name.removeprefix("lost ")
    points = f"[{100 * measure.low:.1f}, {100 * measure.high:.1f}]"
    return f"{name} {rates[1]} after {rates[0]}, worse by {points} points of {100 * measure.tolerance:g} tolerated"


def _demand_possible(name: str, arm: Arm) -> None:
    counts = {
        "slow": (arm.slow, arm.answers),
        "labelled": (arm.labelled, arm.labelled),
        "right": (arm.right, arm.labelled),
        "failures": (arm.failures, arm.requests),
        "confidences": (arm.summed, arm.summed),
    }
    wrong = [f"{count} {what} of {most}" for what, (count, most) in counts.items() if not 0 <= count <= most]
    slack = ROUNDING * arm.summed
    bounds = (0, arm.confidence_squares, arm.confidence_sum, arm.summed)
    if any(low > high + slack for low, high in pairwise(bounds)):
        wrong.append(f"confidences that sum to {arm.confidence_sum:g} and {arm.confidence_squares:g} of {arm.summed}")
    if wrong:
        raise ValueError(f"The {name}'s counts can't be: {', '.join(wrong)}. Shares within 0 to 1 were expected.")
