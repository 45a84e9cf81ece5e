"""The pictures of the gate's benchmarks, drawn from their committed results. Run by itself, it draws all of them again.

They are 900 pixels wide with large type, as the report's are, and go into `docs/images/`.
"""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from PIL import Image

from benchmarks.results import read_figures, rows_of
from flywheel.figures import BLUE, INK, ORANGE, PALE, QUIET, RED

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH, DOTS_PER_INCH = 6.0, 150
COLOURS = 64  # so that a picture takes a third of the bytes
Figures = Mapping[str, Any]
PEERS = "not below the champion"


def main() -> None:
    for name in PICTURES:
        print(draw(name))


def draw(name: str) -> Path:
    """A benchmark's picture from its result."""
    path, drawn = IMAGES / f"{name}.png", BytesIO()
    PICTURES[name](read_figures(name)).savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    return path


def gate_errors(figures: Figures) -> Figure:
    """One comparison, the life of a frozen set, and the true accuracy when each model is a bit worse than the last."""
    figure, (one, life, drift) = panels(8.6, 3)
    cells = rows_of(figures["one_comparison"])
    equal = {key[1:]: row for key, row in cells.items() if key[0] == "equal"}
    shown = [f"{images}\n{float(differ):.0%}" for images, differ in equal]
    one.plot(shown, [row[PEERS] for row in equal.values()], "o", color=ORANGE, label=f"{PEERS}")
    one.plot(shown, [row["the gate"] for row in equal.values()], "o", color=BLUE, label="the gate")
    level(one, figures["level"])
    one.set(title="An equal model is promoted", ylim=(0, 0.6), xlabel="frozen images, and how many the two differ on")
    one.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    one.legend(frameon=False, loc="center right", fontsize=9)

    lives = rows_of(figures["lives"])
    deciders = [name for name in next(iter(lives.values())) if not name.endswith(", at most")]
    colours = dict(zip(deciders, (BLUE, PALE, QUIET, RED, ORANGE), strict=True))
    thick = 0.8 / len(deciders)
    for place, name in enumerate(deciders):
        spots = [row + (place - (len(deciders) - 1) / 2) * thick for row in range(len(lives))]
        life.barh(spots, [row[name] for row in lives.values()], thick, color=colours[name], label=name)
    life.axvline(figures["budget_of_a_life"], color=INK, linestyle="--", linewidth=1)
    life.set_yticks(range(len(lives)), ["\n".join(wrapped(key[0])) for key in lives], fontsize=9)
    life.invert_yaxis()
    life.set(title="Any wrong promotion in ten gates", xlim=(0, 1))
    life.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    life.legend(frameon=False, fontsize=8, loc="lower right")

    lines: dict[str, list[tuple[int, float]]] = {}
    for (kind, name), row in rows_of(figures["drift_points_by_gate"]).items():
        if kind.startswith("half a point"):
            lines[name] = [(int(gate), points) for gate, points in row.items()]
    for (name, points), colour in zip(lines.items(), (BLUE, PALE, RED, ORANGE), strict=True):
        drift.plot(*zip(*points, strict=True), color=colour, label=name, linewidth=2)
    drift.set(title="Every challenger half a point worse than the champion", xlabel="gate", ylabel="true top-1, points")
    drift.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def gate_power(figures: Figures) -> Figure:
    """By the true gain: the default policy's first and tenth gate, one comparison at .05, and what others do."""
    figure, axes = panels(6.6, 9, columns=3, sharex=True, sharey=True)
    cells, peers = rows_of(figures["power"]), rows_of(figures["power_of_peers"])
    places = sorted({(int(images.replace(",", "")), images, differ) for images, differ, _ in cells})
    styles = {".05": QUIET, "first gate": BLUE, "tenth gate": INK}
    for ax, (_, images, differ) in zip(axes, places, strict=True):
        row = peers[images, differ, PEERS]
        ax.plot(gains(row), list(row.values()), "o-", color=ORANGE, markersize=3, label=PEERS)
        for name, colour in styles.items():
            row = cells[images, differ, name]
            ax.plot(gains(row), list(row.values()), "o-", color=colour, markersize=3, label=told(name))
        ax.set_title(f"{images}, {float(differ):.0%} differ", fontsize=9, color=INK)
        ax.set(ylim=(0, 1.03), xticks=range(4), xlim=(-0.1, 3.1))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.supxlabel("true gain, points of top-1", fontsize=10)
    figure.supylabel("promoted as superior", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def gate_labels(figures: Figures) -> Figure:
    """Labels by what is asked for, on a logarithmic scale."""
    figure, (ax,) = panels(5.6, 1)
    rows = rows_of(figures["labels"])
    for name, colour in {"ease.ml/ci": ORANGE, "their paper": QUIET, "flywheel": BLUE}.items():
        ax.plot([row[name] for row in rows.values()], range(len(rows)), "o", color=colour, label=name)
    names = [
        f"{reliability}, {steps} step{'s' if steps != '1' else ''}, {adaptivity}, {float(differ):.0%}"
        for reliability, steps, adaptivity, differ in rows
    ]
    ax.set_yticks(range(len(rows)), names, fontsize=9)
    ax.grid(axis="y", color=PALE, linewidth=0.8)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set(xlim=(1000, 1_000_000), xlabel="labelled images")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.suptitle("n - o > 0.02 +/- 0.01\nreliability, steps, adaptivity, images that differ", color=INK, fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


PICTURES: dict[str, Callable[[Figures], Figure]] = {
    "gate_errors": gate_errors,
    "gate_power": gate_power,
    "gate_labels": gate_labels,
}


def panels(height: float, count: int, columns: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(count // columns, columns, squeeze=False, **grid).ravel().tolist()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK, labelsize=9)
        each.title.set(fontsize=11, color=INK)
    return figure, axes


def gains(row: Mapping[str, float]) -> list[float]:
    return [float(gain) for gain in row]


def told(gate: str) -> str:
    return f"level {gate}" if gate.startswith(".") else f"default policy, {gate}"


def level(ax: Axes, at: float) -> None:
    ax.axhline(at, color=INK, linestyle="--", linewidth=1)


def wrapped(text: str) -> list[str]:
    """In two lines."""
    words = text.split()
    return [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]


if __name__ == "__main__":
    main()
