"""The expected calibration error with an interval that a gate can judge by.

The ECE of a sample lies above the model's: even a perfectly calibrated model's bins are off by chance, by .034 in all
at 1,000 images of CIFAR-10 with 72 % right. A bootstrap adds that chance once more: there its percentiles never hold
the 0 of the calibrated model, and taken around the bias (basic, normal) they hold it less than half of the time. So the
interval comes from inverting a test. Supposed the bins are truly off by t times some direction: which t make the ECE
that was found likely? t = 0 is the calibrated model.

The direction isn't known, and the chance part depends on it. Two extremes are tried, and the interval holds both: every
bin is off as it seems to be, or only those are that stick out.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.metrics import Floats, Integers, expected_calibration_error, reliability
from flywheel.evaluation.statistics import CONFIDENCE
from flywheel.records import Interval

DRAWS = 2000
HALVINGS = 16
STICKS_OUT = 2.0  # standard errors
LARGEST_STRETCH = 64.0

Array = NDArray[np.float64]


def ece_interval(logits: Floats, labels: Integers, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """The population's ECE in the 15 bins, its likely value and its interval; float[N, C] and int[N].

    `value` is corrected for the part that chance adds, so it lies below `expected_calibration_error` of the same
    images. The same input gives the same interval. Raises MetricsError as `reliability` does.
    """
    found = [part for part in reliability(logits, labels) if part.images]
    observed = expected_calibration_error(tuple(found))
    bins = _Bins(
        images=np.array([part.images for part in found], np.float64),
        confidence=np.array([part.confidence for part in found]),
        gap=np.array([part.accuracy - part.confidence for part in found]),
        noise=np.random.default_rng(seed).standard_normal((DRAWS, len(found) + 1)),
    )
    tail = (1 - confidence) / 2
    spread, sparse = (
        [bins.solve(direction, observed, level) for level in (1 - tail, 0.5, tail)] for direction in bins.directions()
    )
    return Interval(
        value=(spread[1] + sparse[1]) / 2,
        low=min(spread[0], sparse[0]),
        high=max(spread[2], sparse[2], bins.smallest_high(tail)),
    )


@dataclass(frozen=True)
class _Bins:
    """The filled bins, and the chance that is laid on them: common to all suppositions, so that they compare."""

    images: Array
    confidence: Array  # means
    gap: Array  # accuracy - confidence
    noise: Array  # standard normal [DRAWS, bins + 1]; the last column moves the bins' sizes

    @property
    def weights(self) -> Array:
        weights: Array = self.images / self.images.sum()
        return weights

    def directions(self) -> tuple[Array, Array]:
        """Off everywhere, a bit more than was seen, so that no bin counts as known to be right; off where it shows."""
        error = self._error(self.confidence + self.gap)
        spread = self.gap + np.where(self.gap >= 0, error, -error) / 2
        sparse = np.where(np.abs(self.gap) > STICKS_OUT * error, self.gap, 0.0)
        return spread, sparse if sparse.any() else spread

    def solve(self, direction: Array, observed: float, level: float) -> float:
        """The true ECE along a direction for which `observed` is the quantile at `level` of what a sample shows."""
        if np.quantile(self._shown(direction, 0.0), level) >= observed:
            return 0.0
        low, high = 0.0, 1.0
        while high < LARGEST_STRETCH and np.quantile(self._shown(direction, high), level) < observed:
            high *= 2
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if np.quantile(self._shown(direction, middle), level) < observed:
                low = middle
            else:
                high = middle
        return min(1.0, float(self.weights @ np.abs(direction)) * (low + high) / 2)

    def smallest_high(self, tail: float) -> float:
        """What no sample of this size can rule out: the error of the mean gap, with Agresti and Coull's two right and
        two wrong answers more, so that a model that was always sure and right isn't taken for proven so.
        """
        z, right = -NormalDist().inv_cdf(tail), self.images * (self.confidence + self.gap)
        share = (right + z * z / 2) / (self.images + z * z)
        return min(1.0, z * float(np.sqrt(self.weights**2 @ (share * (1 - share) / self.images))))

    def _shown(self, direction: Array, stretch: float) -> Array:
        """float64[DRAWS]: the ECEs of samples, if the bins were truly off by `stretch` times the direction."""
        off = stretch * direction
        size = np.abs(off)
        shown = np.abs(off + self._error(self.confidence + off) * self.noise[:, :-1]) @ self.weights
        variance = float(self.weights @ size**2) - float(self.weights @ size) ** 2
        sizes: Array = self.noise[:, -1] * np.sqrt(max(variance, 0.0) / self.images.sum())
        total: Array = shown + sizes
        return total

    def _error(self, accuracy: Array) -> Array:
        """Of a bin's share of right answers; one answer as expected is added, or a bin of one image had none."""
        share = (self.images * np.clip(accuracy, 0, 1) + self.confidence) / (self.images + 1)
        error: Array = np.sqrt(share * (1 - share) / self.images)
        return error
