"""How long a run will still take: a guess by stage from what was measured on two cores, bettered as stages report."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flywheel.settings import TrainingParameters

# Wall seconds of a stage on 2 cores: a fixed part and a part an image. Only the first guess; a stage's own progress
# replaces it as soon as there is any.
FIXED_AND_PER_IMAGE = {
    "fetch source": (1.0, 0.0),
    "index": (1.0, 0.0005),
    "validate index": (12.0, 0.00003),
    "make dataset": (1.0, 0.0004),
    "validate dataset": (2.0, 0.00003),
    "train": (10.0, 0.0),
    "evaluate": (2.0, 0.0001),
    "package": (6.0, 0.0),
    "parity": (15.0, 0.0),
    "judge": (0.5, 0.0),
    "report": (4.0, 0.0),
    "release": (1.0, 0.0),
}
STAGES = {
    "data": tuple(FIXED_AND_PER_IMAGE)[:5],
    "train": tuple(FIXED_AND_PER_IMAGE)[:-1],
    "release": tuple(FIXED_AND_PER_IMAGE),
}
TRAINED_IMAGES_PER_SECOND = 700.0  # airbench_small, one core
TRAIN_SHARE = 0.7
LIKELY_IMAGES = 2_000


@dataclass
class Estimate:
    """The stages of one run; `left()` is in seconds."""

    parameters: TrainingParameters
    until: str
    clock: Callable[[], float]
    images: int = LIKELY_IMAGES
    current: str = ""
    finished: set[str] = field(default_factory=set)
    _started: float = 0.0
    _first: tuple[float, float] | None = None  # (time, share done) of the stage's first sign of progress
    _share: float = 0.0

    @property
    def stages(self) -> tuple[str, ...]:
        return STAGES[self.until]

    def start(self, stage: str) -> None:
        self.current, self._started, self._first, self._share = stage, self.clock(), None, 0.0

    def progress(self, done: int, total: int) -> None:
        self._share = done / total if total else 0.0
        if self._first is None and total:
            self._first = (self.clock(), self._share)
        if self.current == "index" and total:
            self.images = total

    def finish(self, stage: str) -> None:
        self.finished.add(stage)

    def left(self) -> float:
        """Seconds until the run's end, as far as can be told."""
        later = sum(self._guess(stage) for stage in self.stages if stage not in self.finished | {self.current})
        return later + (0.0 if self.current in self.finished else self._left_of_current())

    def _left_of_current(self) -> float:
        """From the pace since the first sign of progress: what a stage takes to start says nothing of the rest."""
        if self._first is not None:
            began, share = self._first
            if self._share > share:
                return (self.clock() - began) * (1 - self._share) / (self._share - share)
        return max(0.0, self._guess(self.current) - (self.clock() - self._started))

    def _guess(self, stage: str) -> float:
        fixed, per_image = FIXED_AND_PER_IMAGE.get(stage, (0.0, 0.0))
        return fixed + per_image * self.images + (self._training() if stage == "train" else 0.0)

    def _training(self) -> float:
        subset = self.parameters.data.subset or self.images
        trained = min(subset, self.images * TRAIN_SHARE)
        return trained * self.parameters.recipe.epochs / TRAINED_IMAGES_PER_SECOND
