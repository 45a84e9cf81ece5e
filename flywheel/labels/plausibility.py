"""Are these labels honest? Row by row, and by who sent them: a poisoned batch must not teach a model anything.

Honest labels disagree with a model, under drift more so. How much they may is what monitoring estimates of the model's
accuracy on this very traffic: an image of confidence c is labelled as predicted with chance at least `r c`, where r is
the low end of that estimate by the mean confidence. A labelled image that the model was unsure of, since such are asked
for, is expected to disagree. From that follow three questions to all labels of one source, and to those of one day:

- do too few of them agree? (the sum of unequal chances is less spread than the binomial of their mean: Hoeffding 1956)
- has one class too many? (a label k needs the prediction k, or an error)
- does one prediction get one other label too often? (more than in the reference, and than the loss allows, even if all
  of it went that way)

A source may see another part of the traffic than the others, the one camera that drifts: where its own images are
estimated to be worse than the whole, their own estimate counts. It may hold the classes in other shares than the
reference, and then other errors are usual: the shares are estimated from the model's answers (Saerens et al. 2002). A
liar has no hand in either.

Each source is condemned with at most the policy's level where its labels are honest and the estimate holds. Sources are
not compared with each other: two that see different cameras disagree honestly, and one that only says what the model
said would make all others look wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom, binom

from flywheel.ledger.labelled import LabelledAnswer
from flywheel.monitoring.accuracy_estimate import estimate
from flywheel.monitoring.baseline import Baseline
from flywheel.monitoring.sample import sample_of_log
from flywheel.policies import LabelPolicy

Floats = NDArray[np.float64]
OwnShare = Callable[[Sequence[LabelledAnswer]], float | None]  # None: they look no worse than the traffic
RULES = 3
UNMEASURED = 0.5  # of its confidence, where monitoring has not looked yet
PRIOR_STEPS = 30  # of expectation and maximization
SMALL = "the small sources together"
AGREEMENT, ONE_CLASS, PAIR = "agreement", "one class", "pair"


@dataclass(frozen=True)
class Expected:
    """What is known of the model on this traffic."""

    share: float  # of an image's confidence, that its prediction is right with at least
    counts: Floats  # [C, C]: the reference's images by prediction and true class


@dataclass(frozen=True)
class Finding:
    """What is implausible about the labels of one source."""

    rule: str
    who: str
    reason: str
    positions: frozenset[int]  # of the labels that it condemns


def expected(
    believed_low: float | None,
    mean_confidence: float,
    predicted: NDArray[np.int64],
    labels: NDArray[np.int64],
    size: int,
) -> Expected:
    """From monitoring's estimate, the traffic's mean confidence, and the reference's answers."""
    share = UNMEASURED if believed_low is None else min(1.0, believed_low / max(mean_confidence, 1e-9))
    counts = np.zeros((size, size)) + 1 / size  # nothing is impossible for having not been seen
    np.add.at(counts, (predicted, labels), 1.0)
    return Expected(share, counts)


def own_share(baseline: Baseline, model_id: str, believed_low: float) -> OwnShare:
    """`Expected.share` of a source's own images, by the estimator that monitoring uses, which looks at no label."""

    def of(answers: Sequence[LabelledAnswer]) -> float | None:
        some = [each for each in answers if each.model_id == model_id]
        if not some:
            return None
        sample = sample_of_log(
            [each.probabilities.tobytes() for each in some],
            [each.embedding for each in some],
            [each.statistics for each in some],
            baseline.classes,
        )
        found = estimate(baseline.regressor, baseline.yardstick, sample)
        confidence = float(sample.probabilities.max(1).mean())
        return found.low / max(confidence, 1e-9) if found.value < believed_low else None

    return of


def last_of_each(answers: Iterable[LabelledAnswer]) -> list[LabelledAnswer]:
    """Who labels a prediction again has changed their mind: the last label of one source counts."""
    return list({(each.prediction_id, each.source, each.client): each for each in answers}.values())


def conflicting(answers: Iterable[LabelledAnswer]) -> set[int]:
    """Positions of labels of images on which two labels stand: none of them can be trusted."""
    answers = list(answers)
    by_image: dict[str, set[str]] = {}
    for each in answers:
        by_image.setdefault(each.image_id or each.prediction_id, set()).add(each.label)
    return {each.position for each in answers if len(by_image[each.image_id or each.prediction_id]) > 1}


def findings(
    answers: Sequence[LabelledAnswer],
    classes: tuple[str, ...],
    known: Expected,
    policy: LabelPolicy,
    share_of: OwnShare | None = None,
) -> list[Finding]:
    """What is implausible, of answers that are known and whose labels are classes."""
    found: list[Finding] = []
    place = {name: number for number, name in enumerate(classes)}
    for who, batches in _by_source(answers, policy).items():
        own = share_of(batches[0]) if share_of else None
        here = known if own is None else replace(known, share=min(known.share, own))
        for batch, level in zip(batches, _levels(policy.implausible_level, len(batches) - 1), strict=True):
            tried = _Batch(who, batch, place, here, level / RULES)
            found += filter(None, (tried.agreement(), tried.one_class(classes), tried.pair(classes)))
    return found


def _levels(level: float, days: int) -> list[float]:
    """Half for all labels of a source, and half for its days: who lies a little every day is found by the whole."""
    return [level / 2, *[level / (2 * days)] * days] if days else [level]


def _by_source(answers: Sequence[LabelledAnswer], policy: LabelPolicy) -> Mapping[str, list[list[LabelledAnswer]]]:
    """Who → all their labels, and those of each day that are enough to be judged; sources with few are one."""
    every: dict[str, list[LabelledAnswer]] = {}
    for each in answers:
        every.setdefault(f"{each.source} ({each.client})" if each.client else each.source, []).append(each)
    small = [each for batch in every.values() if len(batch) < policy.fewest_judged for each in batch]
    judged = {who: batch for who, batch in every.items() if len(batch) >= policy.fewest_judged}
    if len(small) >= policy.fewest_judged:
        judged[SMALL] = small
    return {who: [batch, *_days(batch, policy)] for who, batch in judged.items()}


def _days(batch: list[LabelledAnswer], policy: LabelPolicy) -> list[list[LabelledAnswer]]:
    days: dict[object, list[LabelledAnswer]] = {}
    for each in batch:
        days.setdefault(each.at.date(), []).append(each)
    return [some for some in days.values() if len(days) > 1 and len(some) >= policy.fewest_judged]


class _Batch:
    """Labels of one source, or of one of its days."""

    def __init__(
        self, who: str, answers: Sequence[LabelledAnswer], place: Mapping[str, int], known: Expected, level: float
    ) -> None:
        self.who, self.known, self.level = who, known, level
        self.positions = frozenset(each.position for each in answers)
        self.label = np.array([place[each.label] for each in answers])
        self.predicted = np.array([each.predicted for each in answers])
        probabilities = np.stack([each.probabilities for each in answers]).astype(np.float64)
        self.right = np.minimum(
            1.0, known.share * probabilities.max(1)
        )  # chance that the prediction is right, at least
        usual = known.counts.sum(0) / known.counts.sum()
        weighed = known.counts * (_shares(probabilities, usual) / usual)  # were the reference of this source's classes
        self.here = weighed / weighed.sum(1, keepdims=True)  # [C, C]: of each prediction, the share of each true class

    def agreement(self) -> Finding | None:
        agree, count, wanted = int((self.label == self.predicted).sum()), len(self.label), float(self.right.mean())
        p = float(binom.cdf(agree, count, wanted))
        if p > self.level:
            return None
        told = f"{agree:,} of {count:,} labels agree with the model, at least {wanted:.0%} expected on this traffic"
        return self._found(AGREEMENT, told, p)

    def one_class(self, classes: tuple[str, ...]) -> Finding | None:
        for number in np.unique(self.label):
            count = int((self.label == number).sum())
            error = np.maximum(1 - self.right, self.here[self.predicted, number])
            possible = float(np.where(self.predicted == number, 1.0, error).mean())
            p = float(binom.sf(count - 1, len(self.label), min(1.0, possible)))
            if p <= self.level / len(classes):
                told = f"{count:,} of {len(self.label):,} labels are “{classes[number]}”, at most {possible:.0%} can be"
                return self._found(ONE_CLASS, told, p)
        return None

    def pair(self, classes: tuple[str, ...]) -> Finding | None:
        level = self.level / (len(classes) * (len(classes) - 1))
        for number in np.unique(self.predicted):
            here = self.predicted == number
            size, known = int(here.sum()), self.known.counts[number]
            usual, mine = known / known.sum(), self.here[number]
            right = float(self.right[here].mean())
            for other in np.unique(self.label[here]):
                if other == number:
                    continue
                count = int((self.label[here] == other).sum())
                # the loss might all have gone to this class
                possible = max(float(each[other] + max(0.0, each[number] - right)) for each in (usual, mine))
                if count <= size * possible:
                    continue
                p = _tail(count, size, possible, float(known.sum()))
                if p <= level:
                    told = (
                        f"{count:,} of {size:,} images that the model takes for “{classes[number]}” are "
                        f"labelled “{classes[other]}”, at most {possible:.0%} expected"
                    )
                    return self._found(PAIR, told, p)
        return None

    def _found(self, rule: str, told: str, p: float) -> Finding:
        return Finding(rule, self.who, f"{self.who}: {told} (p {p:.1g}, level {self.level:.1g})", self.positions)


def _tail(count: int, size: int, share: float, known_from: float) -> float:
    """The chance of so many or more, where the share is itself known from so many images only."""
    if share >= 1:
        return 1.0
    return float(betabinom.sf(count - 1, size, share * known_from, (1 - share) * known_from))


def _shares(probabilities: Floats, usual: Floats) -> Floats:
    """[C]: of the classes among these images, from a model's answers [N, C] that were made for the usual shares, by
    expectation and maximization (Saerens, Latinne and Decaestecker 2002). No label is looked at."""
    shares = usual
    for _ in range(PRIOR_STEPS):
        weighed = probabilities * (shares / usual)
        shares = (weighed / np.maximum(weighed.sum(1, keepdims=True), 1e-12)).mean(0)
    return np.asarray(shares)
