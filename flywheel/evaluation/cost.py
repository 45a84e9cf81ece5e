"""What a challenger costs beside the champion: seconds an answer and bytes of weights, as ratios.

Milliseconds depend on the machine and on what else it does at the moment. So the two answer by turns in one process, in
the order challenger, champion, champion, challenger, which takes out a slow drift of the machine, and each such round
gives one ratio. Of models on the CPU the thread's own CPU time is taken: waiting for a busy core says nothing of them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import comb, isfinite
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flywheel.evaluation.statistics import CONFIDENCE
from flywheel.records import Interval

if TYPE_CHECKING:
    from flywheel.model.inference import Classifier

Clock = Callable[[], float]

BATCH = 32
SECONDS = 10.0  # in all
WARM_UPS = 1  # rounds that aren't counted: the first calls allocate memory and choose kernels
FEWEST_ROUNDS = 6  # with fewer no two of their ratios hold the median with 95 %
MOST_ROUNDS = 300  # a small net is done before the time is up


class CostError(RuntimeError):
    """Two models whose cost can't be compared."""


@dataclass(frozen=True)
class Latency:
    """Seconds of the challenger over those of the champion for batches of one size."""

    batch: int  # images
    ratio: Interval | None  # None where there were too few rounds within the time
    rounds: int
    challenger_ms: float | None  # median, of this machine at that time: for eyes only
    champion_ms: float | None


@dataclass(frozen=True)
class Cost:
    """A challenger's cost as a share of the champion's: 1 is the same, 2 is twice as much."""

    challenger_id: str
    champion_id: str
    single: Latency  # one image at a time, as the service is asked most
    batch: Latency | None  # None where only single images were asked for
    bytes_ratio: float
    challenger_bytes: int  # of weights and buffers
    champion_bytes: int
    seconds: float  # that the comparison took


def compare_cost(
    challenger: "Classifier",
    champion: "Classifier",
    images: NDArray[np.uint8],
    *,
    seconds: float = SECONDS,
    rounds: int = MOST_ROUNDS,
    batches: bool = True,
    clock: Clock = time.perf_counter,
    timer: Clock | None = None,
) -> Cost:
    """Let both answer the same images uint8[N, S, S, 3] by turns, on one CPU thread, one and, for `batches`, 32 at a
    time.

    From pixels to logits, resizing included where a model wants another size. Ends after `rounds` of each size, or
    after `seconds` of `clock`, at the latest with the call that is then in progress; batches that would take longer
    than what is left aren't begun. So of a slow model only single images are compared, and of a very slow one nothing:
    the ratio is None. `timer` measures the calls: CPU time, or wall time for a model on another device. The thread
    count is restored. Raises CostError without an image or weights.
    """
    if len(images) == 0:
        raise CostError("No images to time: at least one expected.")
    challenger_bytes, champion_bytes = weight_bytes(challenger), weight_bytes(champion)
    if min(challenger_bytes, champion_bytes) <= 0:
        raise CostError(
            f"{challenger.model.id}, {champion.model.id}: weights expected, {challenger_bytes:,} and "
            f"{champion_bytes:,} bytes found."
        )
    started = clock()
    turns = _Turns(challenger, champion, images, rounds, clock, timer or _timer(challenger, champion))
    with _one_thread():
        single = turns.latency(1, started + seconds / 2, started + seconds)
        batch = turns.latency(BATCH, started + seconds, started + seconds) if batches else None
    return Cost(
        challenger_id=challenger.model.id,
        champion_id=champion.model.id,
        single=single,
        batch=batch,
        bytes_ratio=challenger_bytes / champion_bytes,
        challenger_bytes=challenger_bytes,
        champion_bytes=champion_bytes,
        seconds=max(clock() - started, 0.0),
    )


def weight_bytes(classifier: "Classifier") -> int:
    """What the network's weights and buffers take, in bytes: the file of the weights without its header."""
    return sum(tensor.numel() * tensor.element_size() for tensor in classifier.network.state_dict().values())


def median_ratio(ratios: list[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The median with the distribution-free interval between two order statistics; None where there are too few.

    At least `confidence` for independent ratios of any distribution (David & Nagaraja 2003, Order Statistics, 7.1).
    Ratios that are not finite or not positive make it None: a broken clock is no evidence.
    """
    if not ratios or not all(isfinite(ratio) and ratio > 0 for ratio in ratios):
        return None
    ordered, count = sorted(ratios), len(ratios)
    below, outside = 0, 0  # of all 2**count ways, those with fewer than `below` ratios under the median
    while 2 * (outside + comb(count, below)) <= (1 - confidence) * 2**count:
        outside += comb(count, below)
        below += 1
    return Interval(median(ordered), ordered[below - 1], ordered[count - below]) if below else None


@dataclass
class _Turns:
    """Two models that answer by turns."""

    challenger: "Classifier"
    champion: "Classifier"
    images: NDArray[np.uint8]
    rounds: int  # at most, of each size
    clock: Clock
    timer: Clock
    image_seconds: dict[int, float] = field(default_factory=dict)  # of the clock, by model, in its last call

    def latency(self, size: int, until: float, at_last: float) -> Latency:
        """Rounds with batches of one size until a time; `at_last` is for those without which there is no interval."""
        timed: tuple[list[float], list[float]] = ([], [])
        for number in range(-WARM_UPS, self.rounds):
            found = self._round(number, size, until if number >= FEWEST_ROUNDS else at_last)
            if len(found) < 4:
                break
            if number >= 0:
                timed[0].append(found[0] + found[3])
                timed[1].append(found[1] + found[2])
        return _summary(size, *timed)

    def _round(self, number: int, size: int, until: float) -> list[float]:
        """The seconds of four calls; of fewer where the next would end too late."""
        rows = np.arange(number * size, (number + 1) * size) % len(self.images)  # from the start again after the last
        batch, found = [self.images[row] for row in rows], []
        for place in (0, 1, 1, 0):
            classifier, began = (self.challenger, self.champion)[place], self.clock()
            if began >= until or began + size * self.image_seconds.get(place, 0.0) > until:
                break
            before = self.timer()
            classifier.classify(batch)
            found.append(self.timer() - before)
            self.image_seconds[place] = (self.clock() - began) / size
        return found


def _timer(*classifiers: "Classifier") -> Clock:
    devices = {next(classifier.network.parameters()).device.type for classifier in classifiers}
    return time.thread_time if devices == {"cpu"} else time.perf_counter


def _summary(size: int, challenger: list[float], champion: list[float]) -> Latency:
    whole = bool(champion) and min(champion) > 0
    ratios = [one / other for one, other in zip(challenger, champion, strict=True)] if whole else []
    return Latency(size, median_ratio(ratios), len(champion), _milliseconds(challenger), _milliseconds(champion))


def _milliseconds(two_calls: list[float]) -> float | None:
    return 1e3 * median(two_calls) / 2 if two_calls and all(map(isfinite, two_calls)) else None


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
