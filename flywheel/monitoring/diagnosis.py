"""What moved, and so what to do about it. Rules in their order, the first that fits decides; each says its numbers.

1. Images without contrast, or a shift in the direction of a known mistake of programs: the input is broken.
2. A mixture of the classes as they were explains the shift: the classes are asked for in other shares.
3. Some images lie far off and the others have not moved, or all lie far off in a direction that no corruption takes:
   a new kind of image.
4. Labels of images drawn at random, where they tell it: harmful or harmless.
5. All estimates say that little is lost: harmless, unless it moved further than anything that was tried. All say
   much: harmful. Else nobody knows without labels.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import nnls
from scipy.special import betainc, chndtr
from scipy.stats import chi2

from flywheel.data.measurements import STATISTICS
from flywheel.monitoring.accuracy_estimate import AccuracyEstimate, of_value
from flywheel.monitoring.audit import Audit, Finding, audit
from flywheel.monitoring.baseline import Baseline
from flywheel.monitoring.drift import ChannelReference, Drift, Floats, input_features
from flywheel.monitoring.sample import Sample
from flywheel.policies import DiagnosisPolicy

CONTRAST = STATISTICS.index("contrast")
BLANK = 0.01  # contrast below which nothing can be seen
LEAST_SHARE_BROKEN = 0.15  # of the traffic, to be told from noise
SHORTEST = 0.1  # standard deviations of an image: what moves the mean less has no direction
LARGEST_CHANCE = 0.05  # that a direction is met by luck: with few dimensions any two are near each other
FAR = 0.99  # quantile of the reference, along the direction in which the window moved
OTHERS_STAYED = 0.35  # of the whole shift, that the other images may have taken
KNOWN_DIRECTION = 0.8  # cosine to a known corruption from which on it is that, in a part of the traffic
LEVEL = 0.01  # at which a mixture of classes is given up as the explanation
SMALLEST_SHARE_CHANGE = 0.1  # of the classes, in total variation
OWN_DIRECTION = 0.65  # cosine to any known corruption below which a shift is like none
FAR_OFF = 3.0  # standard deviations of an image


class Cause(StrEnum):
    """What moved."""

    NOTHING = "nothing moved"
    HARMLESS = "harmless shift"
    HARMFUL = "harmful shift"
    LABELS = "other shares of the classes"
    BROKEN = "broken input"
    NEW_KIND = "a new kind of image"
    UNKNOWN = "unknown without labels"


class Action(StrEnum):
    """What to do."""

    NOTHING = "nothing"
    REPORT = "report"
    RETRAIN = "retrain"
    RECALIBRATE = "recalibrate"
    BLOCK = "block retraining"
    ASK = "ask for labels"


ACTIONS = {
    Cause.NOTHING: Action.NOTHING,
    Cause.HARMLESS: Action.REPORT,
    Cause.HARMFUL: Action.RETRAIN,
    Cause.LABELS: Action.RECALIBRATE,
    Cause.BROKEN: Action.BLOCK,
    Cause.NEW_KIND: Action.ASK,
    Cause.UNKNOWN: Action.ASK,
}


@dataclass(frozen=True)
class Mixture:
    """The shares of the classes that explain a window best."""

    shares: tuple[float, ...]
    change: float  # total variation against the reference's
    p: float  # of what they leave unexplained; 0 where there are too many classes to tell
    p_unchanged: float  # of what they explain beyond the shares as they were
    accuracy: float  # of the model at these shares
    accuracy_error: float  # its standard deviation, where the classes are as they were


@dataclass(frozen=True)
class Scores:
    """What the rules looked at."""

    blank: float  # share of the images
    mistake: str  # the known one in whose direction the window moved most
    mistake_match: float  # cosine
    mistake_share: float  # of the traffic, by the length of the shift
    corruption: str
    corruption_match: float
    far: float  # share of images far off in the direction of the shift, beyond the reference's own
    others_moved: float  # how far the rest moved, as a share of the whole shift
    length: float  # of the whole shift, in standard deviations of an image
    longest: float  # shift that any known corruption makes
    dimensions: int  # of the directions
    mistakes: int  # that are known
    mixture: Mixture


@dataclass(frozen=True)
class Diagnosis:
    """A cause, what to do, and why."""

    cause: Cause
    action: Action
    reason: str
    estimate: AccuracyEstimate  # the one that fits the cause
    scores: Scores | None = None
    audit: Audit | None = None


def diagnose(
    baseline: Baseline,
    drift: Drift,
    estimate: AccuracyEstimate,
    window: Sample,
    *,
    alarm: bool,
    policy: DiagnosisPolicy,
    labels: tuple[int, int] = (0, 0),
) -> Diagnosis:
    """`alarm` is the alarm's verdict on the life so far; `labels` of images drawn at random since: right, and all."""
    if not alarm:
        quiet = "No alarm, so nothing is concluded from this window."
        return Diagnosis(Cause.NOTHING, Action.NOTHING, quiet, estimate)
    scores = measure(baseline, window)
    told = audit(*labels, baseline.accuracy, policy.largest_loss)
    cause, reason = _of_shift(scores, policy) or (Cause.UNKNOWN, "")
    if cause in (Cause.UNKNOWN, Cause.NEW_KIND):
        cause, reason = _of_labels(told, policy) or (cause, reason)
    if not reason:
        cause, reason = _of_estimates(scores, estimate, policy)
    if cause is Cause.LABELS:
        mixture = scores.mixture
        estimate = of_value(mixture.accuracy, mixture.accuracy_error, estimate, len(window), "class shares")
    return Diagnosis(cause, ACTIONS[cause], f"{reason} {_moved(drift)}".strip(), estimate, scores, told)


def measure(baseline: Baseline, window: Sample) -> Scores:
    channel = baseline.drift.input
    rows = _whitened(channel, window)
    mistakes = {name: baseline.signatures[name][: channel.dimensions] for name in baseline.breakages}
    corruptions = {
        name: values[: channel.dimensions] for name, values in baseline.signatures.items() if name not in mistakes
    }
    direction = rows.mean(0)
    length = _length(direction, channel, len(rows))
    mistake, mistake_match, share = _closest(direction, length, mistakes)
    corruption, corruption_match, _ = _closest(direction, length, corruptions)
    far, moved = _far(_whitened(channel, baseline.sample), rows)
    return Scores(
        blank=float((window.statistics[:, CONTRAST] < BLANK).mean()),
        mistake=mistake,
        mistake_match=mistake_match,
        mistake_share=share,
        corruption=corruption,
        corruption_match=corruption_match,
        far=far,
        others_moved=moved,
        length=length,
        longest=max(float(np.linalg.norm(values)) for values in corruptions.values()),
        dimensions=channel.dimensions,
        mistakes=len(mistakes),
        mixture=_mixture(baseline, rows),
    )


def oddest(baseline: Baseline, window: Sample, count: int) -> list[int]:
    """The images furthest from every class, the oddest first."""
    means, images = _class_means(baseline)
    distances = _nearest(_whitened(baseline.drift.input, window), means[images > 0])
    found: list[int] = np.argsort(-distances, kind="stable")[:count].tolist()
    return found


def _of_shift(scores: Scores, policy: DiagnosisPolicy) -> tuple[Cause, str] | None:
    if scores.blank > policy.largest_blank_share:
        return Cause.BROKEN, f"{scores.blank:.0%} of the images show nothing: they have no contrast."
    if (
        scores.mistake_match >= policy.closest_match
        and _by_chance(policy.closest_match, scores.dimensions, scores.mistakes) <= LARGEST_CHANCE
        and scores.mistake_match > scores.corruption_match
        and scores.mistake_share >= LEAST_SHARE_BROKEN
    ):
        return Cause.BROKEN, (
            f"It looks as if {scores.mistake}, in about {min(scores.mistake_share, 1):.0%} of the traffic "
            f"(match {scores.mistake_match:.2f})."
        )
    mixture = scores.mixture
    if mixture.p >= LEVEL > mixture.p_unchanged and mixture.change >= SMALLEST_SHARE_CHANGE:
        return Cause.LABELS, (
            f"The classes as they were, in other shares (by {mixture.change:.0%}), explain what moved; the "
            f"model is then right on about {mixture.accuracy:.1%}."
        )
    apart = scores.others_moved <= OTHERS_STAYED and scores.corruption_match < KNOWN_DIRECTION
    elsewhere = scores.length >= FAR_OFF and scores.corruption_match < OWN_DIRECTION
    if scores.far >= policy.smallest_new_share and (apart or elsewhere):
        told = "the others have not moved" if apart else "no corruption that is known moves them so"
        return Cause.NEW_KIND, f"{scores.far:.0%} of the images lie far from what the model was made for, and {told}."
    return None


def _of_labels(told: Audit, policy: DiagnosisPolicy) -> tuple[Cause, str] | None:
    said = f"{told.right:,} of {told.labels:,} labelled images, drawn at random, are right"
    line = f"by {100 * policy.largest_loss:g} points"
    if told.finding is Finding.HARMFUL:
        return Cause.HARMFUL, f"{said}: the accuracy fell {line} or more."
    if told.finding is Finding.HARMLESS:
        return Cause.HARMLESS, f"{said}: the accuracy did not fall {line}."
    return None


def _of_estimates(scores: Scores, estimate: AccuracyEstimate, policy: DiagnosisPolicy) -> tuple[Cause, str]:
    lost = {name: estimate.reference - value for name, value in estimate.estimators.items()}
    told = ", ".join(f"{name} {100 * value:+.1f}" for name, value in lost.items())
    line = f"{100 * policy.largest_loss:g} points are the line"
    if all(value < policy.largest_loss for value in lost.values()) and estimate.lost_low < policy.largest_loss:
        if scores.length > scores.longest:
            return Cause.UNKNOWN, (
                f"It moved further, by {scores.length:.1f} standard deviations, than any corruption that was tried "
                f"({scores.longest:.1f}), so no estimate is believed: {policy.labels_asked} labels would tell."
            )
        return Cause.HARMLESS, f"All estimates of the accuracy lost lie below it ({told}; {line})."
    if all(value >= policy.largest_loss for value in lost.values()):
        return Cause.HARMFUL, f"All estimates of the accuracy lost reach it ({told}; {line})."
    return Cause.UNKNOWN, (
        f"The estimates of the accuracy lost disagree ({told}; {line}): {policy.labels_asked} labels would tell."
    )


def _moved(drift: Drift) -> str:
    named = [f"{each.name} {each.reference:.3f} → {each.window:.3f}" for each in drift.statistics if each.moved]
    return f"Moved: {', '.join(named)}." if named else ""


def _whitened(channel: ChannelReference, sample: Sample) -> Floats:
    found: Floats = (input_features(sample) - channel.mean) @ channel.whitening
    return found


def _length(direction: Floats, channel: ChannelReference, images: int) -> float:
    """Without what chance adds to it, where that leaves enough."""
    squared = float(direction @ direction)
    chance = channel.dimensions * (1 / images + 1 / channel.images)
    return float(np.sqrt(squared - chance if squared > 2 * chance else squared))


def _closest(direction: Floats, length: float, known: dict[str, Floats]) -> tuple[str, float, float]:
    """The name, its cosine, and how far along it the direction reaches."""
    best = ("", -1.0, 0.0)
    for name, other in known.items():
        reach = float(np.linalg.norm(other))
        if reach >= SHORTEST and length:
            along = float(direction @ other) / reach
            best = max(best, (name, min(1.0, along / length), along / reach), key=lambda each: each[1])
    return best


def _by_chance(cosine: float, dimensions: int, known: int) -> float:
    """By the share of a sphere's surface that its caps of this cosine around so many directions take at most."""
    if dimensions < 2 or cosine <= 0:
        return 1.0
    return min(1.0, known * float(betainc((dimensions - 1) / 2, 0.5, 1 - cosine**2)) / 2)


def _class_means(baseline: Baseline) -> tuple[Floats, Floats]:
    """float64[C, d] and the number of images behind each; a class without any lies at the middle."""
    rows = _whitened(baseline.drift.input, baseline.sample)
    counts = np.bincount(baseline.labels, minlength=baseline.classes)
    sums = np.zeros((baseline.classes, rows.shape[1]))
    np.add.at(sums, baseline.labels, rows)
    return sums / np.maximum(counts, 1)[:, None], counts.astype(np.float64)


def _far(reference: Floats, rows: Floats) -> tuple[float, float]:
    """The share of images far off in the direction of the shift, and how far the others moved of the whole way.

    The direction is found on one half of the window and looked along on the other, so chance in it counts for nothing.
    """
    shares, moved = [], []
    for one, other in ((rows[::2], rows[1::2]), (rows[1::2], rows[::2])):
        direction = one.mean(0) / max(float(np.linalg.norm(one.mean(0))), 1e-12)
        along, usual = other @ direction, reference @ direction
        line = float(np.quantile(usual, FAR))
        near, whole = along <= line, float(along.mean() - usual.mean())
        shares.append(max(0.0, float((~near).mean()) - (1 - FAR)))
        rest = float(along[near].mean() - usual[usual <= line].mean()) if near.any() else whole
        moved.append(rest / whole if whole > 0 else 1.0)
    return float(np.mean(shares)), float(np.mean(moved))


def _nearest(rows: Floats, means: Floats) -> Floats:
    squares = (rows**2).sum(1)[:, None] - 2 * rows @ means.T + (means**2).sum(1)
    found: Floats = squares.min(1)
    return found


def _mixture(baseline: Baseline, rows: Floats) -> Mixture:
    """By least squares without negative shares; what is left over is tested as T² is."""
    means, counts = _class_means(baseline)
    known = counts > 0
    usual, dimensions = counts / counts.sum(), rows.shape[1]
    firm = 1e3  # how hard the shares are held to sum to 1
    found, _ = nnls(np.vstack([means[known].T, np.full(known.sum(), firm)]), np.append(rows.mean(0), firm))
    shares = np.zeros(len(counts))
    shares[known] = found / max(found.sum(), 1e-12)
    right = np.zeros(len(counts))
    np.add.at(right, baseline.labels, baseline.sample.predicted == baseline.labels)
    recall = right / np.maximum(counts, 1)
    accuracy = float(shares @ recall)
    change = float(np.abs(shares - usual).sum() / 2)
    error = _error_of_mixture(means[known], counts[known], shares[known], right[known], len(rows))
    spent = max(1, int(known.sum()) - 1)
    all_of_it = len(rows) * float((rows.mean(0) ** 2).sum())
    left = len(rows) * float(((rows.mean(0) - shares @ means) ** 2).sum())
    p, p_unchanged = 0.0, _tail(all_of_it - left, spent, len(rows) / baseline.drift.input.images)
    if dimensions - spent >= dimensions / 2:
        p = _tail(left, dimensions - spent, len(rows) * float((shares**2 / np.maximum(counts, 1)).sum()), dimensions)
    return Mixture(tuple(map(float, shares)), change, p, p_unchanged, accuracy, error)


def _tail(found: float, freedom: int, ratio: float, dimensions: int = 0) -> float:
    """As in `drift`: the reference may lie so far from the truth as its own error reaches, and no further. `ratio` is
    that of a window's mean's variance to the reference's."""
    reach = ratio * float(chi2.ppf(1 - LEVEL, dimensions or freedom))
    return float(1 - chndtr(found, freedom, reach))


def _error_of_mixture(means: Floats, counts: Floats, shares: Floats, right: Floats, images: int) -> float:
    """Of the accuracy: what recall on few images, and shares read off a window of few, leave open. Recall is taken as
    Laplace would: one of 1 is not certain."""
    recall = (right + 1) / (counts + 2)
    around = means - means.mean(0)
    slope = np.linalg.pinv(around @ around.T) @ (recall - recall.mean())
    of_shares = float((recall - recall.mean()) @ slope) / images
    of_recall = float((shares**2 * recall * (1 - recall) / counts).sum())
    return float(np.sqrt(max(0.0, of_shares) + of_recall))
