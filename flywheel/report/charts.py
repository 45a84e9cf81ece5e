"""Small charts as coordinates, which the template draws as SVG: they take the page's colours, and hardly any room.

The challenger's line is whole with filled dots, the champion's dashed with hollow ones: they differ without colour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

from flywheel.evaluation.metrics import ReliabilityBin
from flywheel.evaluation.robustness import Robustness, robustness_difference
from flywheel.evaluation.statistics import wilson

CHALLENGER, CHAMPION = "challenger", "champion"
SMALLEST_DOT, LARGEST_DOT = 2.0, 9.0  # radius in pixels; a dot's area says how many images it stands for


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    radius: float
    low: float | None = None  # ends of its whisker
    high: float | None = None


@dataclass(frozen=True)
class Line:
    who: str  # challenger or champion
    dots: tuple[Dot, ...]

    @property
    def path(self) -> str:
        return " ".join(f"{dot.x},{dot.y}" for dot in self.dots)


@dataclass(frozen=True)
class Chart:
    """Shares from 0 to 1 upwards; all lengths are pixels."""

    title: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: tuple[tuple[float, str], ...]  # ticks
    up: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    below: str = ""  # the axis's name
    diagonal: bool = False


@dataclass(frozen=True)
class CorruptedAccuracy:
    """Accuracy of both models on corrupted copies of the same images: by corruption, at each severity from the weakest.

    Another length, or a corruption that only one model met, is drawn as far as it goes.
    """

    images: int
    challenger: Mapping[str, Sequence[float]]
    champion: Mapping[str, Sequence[float]]


def corrupted_accuracy(challenger: Robustness, champion: Robustness) -> CorruptedAccuracy:
    """The curves of two recorded measurements. Raises RobustnessError where they were made on different images."""
    robustness_difference(challenger, champion)
    return CorruptedAccuracy(challenger.images, _curves(challenger), _curves(champion))


def _curves(found: Robustness) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    for condition in sorted(found.conditions, key=lambda each: each.severity):
        curves.setdefault(condition.corruption, []).append(condition.right / found.images)
    return curves


@dataclass(frozen=True)
class _Frame:
    width: float
    height: float
    left: float = 36
    right: float = 16
    top: float = 10
    bottom: float = 22

    def x(self, share: float) -> float:
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def y(self, share: float) -> float:
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)

    def chart(self, title: str, lines: tuple[Line, ...], across: Sequence[tuple[float, str]], **rest: object) -> Chart:
        return Chart(
            title=title,
            width=self.width,
            height=self.height,
            left=self.x(0),
            right=self.x(1),
            top=self.y(1),
            bottom=self.y(0),
            across=tuple((self.x(share), text) for share, text in across),
            up=tuple((self.y(share), f"{share:.0%}") for share in (0.0, 0.5, 1.0)),
            lines=lines,
            **rest,  # type: ignore[arg-type]
        )


def reliability_chart(who: str, bins: Sequence[ReliabilityBin]) -> Chart:
    """Accuracy against mean confidence, with Wilson intervals; on the diagonal a model is as often right as it says."""
    frame = _Frame(330, 250, bottom=38)
    filled = [part for part in bins if part.images]
    most = max((part.images for part in filled), default=1)
    dots = []
    for part in filled:
        accuracy = wilson(round(part.accuracy * part.images), part.images)
        radius = SMALLEST_DOT + (LARGEST_DOT - SMALLEST_DOT) * sqrt(part.images / most)
        low, high = frame.y(accuracy.low), frame.y(accuracy.high)
        dots.append(Dot(frame.x(part.confidence), frame.y(part.accuracy), round(radius, 1), low, high))
    across = [(share, f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    line = Line(who, tuple(dots))
    return frame.chart(f"Reliability of the {who}", (line,), across, below="confidence", diagonal=True)


def corruption_charts(corrupted: CorruptedAccuracy) -> tuple[Chart, ...]:
    """One small chart a corruption, in the order that the challenger met them."""
    names = dict.fromkeys([*corrupted.challenger, *corrupted.champion])
    return tuple(
        _corruption_chart(name, corrupted.challenger.get(name, ()), corrupted.champion.get(name, ())) for name in names
    )


def _corruption_chart(name: str, challenger: Sequence[float], champion: Sequence[float]) -> Chart:
    frame = _Frame(200, 140)
    severities = max(len(challenger), len(champion), 1)

    def place(severity: int) -> float:
        return (severity + 0.5) / severities

    lines = tuple(
        Line(
            who,
            tuple(
                Dot(frame.x(place(severity)), frame.y(min(max(share, 0.0), 1.0)), 4)
                for severity, share in enumerate(shares)
                if isfinite(share)
            ),
        )
        for who, shares in ((CHAMPION, champion), (CHALLENGER, challenger))
    )
    return frame.chart(name, lines, [(place(severity), str(severity + 1)) for severity in range(severities)])
