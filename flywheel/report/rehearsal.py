"""A rehearsal as one picture: accuracy, estimated accuracy with its band, the alarm's evidence, events, on one axis."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flywheel.figures import BLUE, INK, ORANGE, PALE, QUIET, RED, figure_of, save_figure

TOGETHER = 100  # answers whose accuracy is one point
LINE_INCHES = 0.16
CLOSE = 0.015  # of its length; events that are closer share their label's place
LEAST_EVIDENCE, MOST_EVIDENCE = 1e-3, 1e8


@dataclass(frozen=True)
class Event:
    """Something that happened, in words."""

    at: datetime  # UTC
    what: str


@dataclass(frozen=True)
class LookPoint:
    """What one look of monitoring said."""

    at: datetime
    decision_id: str
    release_id: str
    evidence: float | None  # None where nothing was measured
    threshold: float | None
    alarm: bool
    accuracy: float | None  # estimated, without labels
    low: float | None
    high: float | None
    action: str
    told: str


@dataclass(frozen=True)
class Played:
    """A whole rehearsal."""

    scenario: str
    told: str
    seed: int
    began: datetime
    minutes: float
    champion: str
    new_model: str  # empty where none was trained
    promoted: bool
    must_promote: bool | None
    outcome: str
    reason: str
    requests: int
    failed_requests: int
    false_alarms: int
    images_until_alarm: int | None
    minutes_to_heal: float | None
    accuracy_before: float | None
    accuracy_under_drift: float | None
    accuracy_after: float | None
    events: tuple[Event, ...]
    looks: tuple[LookPoint, ...]
    decisions: tuple[str, ...]
    runs: tuple[dict[str, Any], ...]  # of the orchestrator: id, name, state
    answers: tuple[tuple[datetime, bool], ...]  # when, and whether it was right
    last_prediction: str  # an answer of the new model; empty where there is none
    policy: str = ""  # what it was judged by; empty for the usual policies
    frozen_set: str = ""  # which of its planned comparisons this was

    @property
    def holds(self) -> bool:
        """Whether it ended as its scenario must, without a failed request or a false alarm."""
        ended = self.must_promote is None or self.promoted == self.must_promote
        return ended and self.failed_requests == 0 and self.false_alarms == 0


def draw_rehearsal(played: Played, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(rehearsal_figure(played), path)


def rehearsal_figure(played: Played) -> Figure:
    """Minutes since its start."""

    def minute(at: datetime) -> float:
        return (at - played.began).total_seconds() / 60

    told = [f"{number}  {event.what}" for number, event in enumerate(played.events, 1)]
    told += [played.policy] if played.policy else []
    height = LINE_INCHES * (len(told) + 1)
    ratios = [2.9, 2.4, height]
    figure, (accuracy, evidence, words) = figure_of(sum(ratios) + 0.6, rows=3, sharex=False, height_ratios=ratios)
    accuracy.sharex(evidence)
    accuracy.tick_params(labelbottom=False)
    times, shares = _moving(played)
    accuracy.plot([minute(at) for at in times], shares, color=INK, linewidth=1.5, label="true accuracy")
    known = [look for look in played.looks if look.accuracy is not None]
    at = [minute(look.at) for look in known]
    values, low, high = ([getattr(look, name) for look in known] for name in ("accuracy", "low", "high"))
    for release in dict.fromkeys(look.release_id for look in known):
        here = [place for place, look in enumerate(known) if look.release_id == release]
        times_here, found, lowest, highest = ([column[place] for place in here] for column in (at, values, low, high))
        label = "estimated without labels, 90 %" if release == known[0].release_id else ""
        accuracy.vlines(times_here, lowest, highest, color=PALE, linewidth=6)
        accuracy.plot(times_here, found, color=BLUE, marker="o", markersize=4, linewidth=1, label=label)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.set_ylim(0, 1)
    accuracy.legend(frameon=False, loc="lower left")
    for release in dict.fromkeys(look.release_id for look in known):
        of_release = [look for look in known if look.release_id == release]
        heights = [min(max(look.evidence or 0, LEAST_EVIDENCE), MOST_EVIDENCE) for look in of_release]
        evidence.plot([minute(look.at) for look in of_release], heights, color=ORANGE, marker="o", markersize=4)
    if known and known[0].threshold is not None:
        evidence.axhline(known[0].threshold, color=RED, linestyle="--", linewidth=1, label="alarm")
        evidence.legend(frameon=False, loc="lower left")
    evidence.set_yscale("log")
    evidence.set_ylim(LEAST_EVIDENCE / 2, MOST_EVIDENCE * 2)
    evidence.set_ylabel("evidence of drift")
    evidence.set_xlabel("minutes")
    for event in played.events:
        for axes in (accuracy, evidence):
            axes.axvline(minute(event.at), color=QUIET, linewidth=0.8, linestyle=":")
    for numbers, middle in _beside(played, minute):
        accuracy.text(middle, 1.02, numbers, ha="center", va="bottom", fontsize=8, color=INK)
    words.axis("off")
    words.text(0, 1, "\n".join(told), ha="left", va="top", fontsize=8, color=INK, transform=words.transAxes)
    return figure


def _beside(played: Played, minute: Callable[[datetime], float]) -> Iterator[tuple[str, float]]:
    """The numbers of events, those that follow at once together, and where they stand."""
    apart = max(played.minutes, 1.0) * CLOSE
    together: list[tuple[int, float]] = []
    for number, event in enumerate(played.events, 1):
        if together and minute(event.at) - together[-1][1] > apart:
            yield _numbers(together)
            together = []
        together.append((number, minute(event.at)))
    if together:
        yield _numbers(together)


def _numbers(together: list[tuple[int, float]]) -> tuple[str, float]:
    return " ".join(str(number) for number, _ in together), sum(at for _, at in together) / len(together)


def _moving(played: Played) -> tuple[list[datetime], list[float]]:
    """The accuracy of each hundred answers, at the middle one."""
    right = np.array([is_right for _, is_right in played.answers], float)
    moments = [at for at, _ in played.answers]
    starts = range(0, max(len(right) - TOGETHER + 1, 0), TOGETHER)
    return [moments[start + TOGETHER // 2] for start in starts], [
        float(right[start : start + TOGETHER].mean()) for start in starts
    ]
