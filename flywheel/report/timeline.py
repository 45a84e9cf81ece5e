"""The looks of a release over time, as one figure: the alarm's evidence, how far both channels moved, and accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flywheel.figures import BLUE, INK, ORANGE, PALE, QUIET, RED, figure_of, save_figure
from flywheel.monitoring.look import Look

LEAST_EVIDENCE = 1e-4  # of a logarithmic axis
MOST_EVIDENCE = 1e8


@dataclass(frozen=True)
class Moment:
    """A look and when it was taken."""

    at: datetime  # UTC
    look: Look


def draw_timeline(moments: Sequence[Moment], path: Path) -> Path:
    """Write it as PNG; the oldest look first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(timeline(moments), path)


def timeline(moments: Sequence[Moment]) -> Figure:
    """Looks that measured nothing leave a gap."""
    figure, (evidence, effect, accuracy) = figure_of(7.2, rows=3, sharex=True)
    found = [(moment.at, moment.look.measured) for moment in moments if moment.look.measured is not None]
    times = [_number(at) for at, _ in found]
    alarms = [measured.alarm for _, measured in found]
    if alarms:
        heights = [min(max(alarm.evidence, LEAST_EVIDENCE), MOST_EVIDENCE) for alarm in alarms]
        evidence.plot(times, heights, color=BLUE, marker="o", markersize=3)
        evidence.axhline(alarms[-1].threshold, color=RED, linestyle="--", linewidth=1, label="alarm")
        evidence.legend(frameon=False, loc="upper left")
    evidence.set_yscale("log")
    evidence.set_ylim(LEAST_EVIDENCE / 2, MOST_EVIDENCE * 2)
    evidence.set_ylabel("evidence of drift")
    for name, colour in (("input", BLUE), ("prediction", ORANGE)):
        channels = [getattr(measured.drift, name) for _, measured in found]
        effect.plot(times, [each.effect for each in channels], color=colour, marker="o", markersize=3, label=name)
        effect.fill_between(
            times,
            [each.effect_low for each in channels],
            [each.effect_high for each in channels],
            color=colour,
            alpha=0.15,
        )
    effect.set_ylabel("shift (sd of an image)")
    effect.set_ylim(bottom=0)
    if found:
        effect.legend(frameon=False, loc="upper left")
    estimates = [measured.estimate for _, measured in found]
    accuracy.fill_between(times, [each.low for each in estimates], [each.high for each in estimates], color=PALE)
    accuracy.plot(times, [each.value for each in estimates], color=BLUE, marker="o", markersize=3, label="estimated")
    if estimates:
        accuracy.axhline(estimates[-1].reference, color=QUIET, linestyle="--", linewidth=1, label="on the reference")
    labelled = [(moment.at, moment.look.labelled) for moment in moments if moment.look.labelled is not None]
    if labelled:
        accuracy.plot(
            [_number(at) for at, _ in labelled], [each.value for _, each in labelled], color=ORANGE, label="by labels"
        )
    if estimates or labelled:
        accuracy.legend(frameon=False, loc="lower left")
    accuracy.set_ylim(0, 1)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.set_ylabel("accuracy")
    accuracy.xaxis_date(UTC)
    figure.autofmt_xdate(rotation=20)
    if not found:
        evidence.text(
            0.5, 0.5, "no look has measured anything yet", ha="center", color=QUIET, transform=evidence.transAxes
        )
    figure.suptitle("Looks since the release", color=INK)
    return figure


def _number(at: datetime) -> float:
    """As matplotlib counts days."""
    return float(date2num(at))  # type: ignore[no-untyped-call]
