"""What a person sees while `make run` works: one live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flows.estimate import Estimate
from tasks.interruption import end_if_interrupted

PLAIN_LINE_EVERY_SECONDS = 10.0


def duration(seconds: float) -> str:
    """`95.0` is `1 min 35 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


class ConsoleReporter:
    """A `tasks.reporting.Reporter` that prints. Use it as a context manager, so that the live line is taken away."""

    def __init__(self, console: Console, estimate: Estimate | None = None) -> None:
        self._console = console
        self._estimate = estimate
        self._began = time.monotonic()
        self._printed = 0.0
        self._stage = self._detail = ""
        # asked for four times a second, so the time left runs down where a stage tells nothing
        self._live = Live(get_renderable=self._line, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> "ConsoleReporter":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def started(self, stage: str) -> None:
        if self._estimate:
            self._estimate.start(stage)
        self._show(stage, "", plain=False)

    def progress(self, what: str, done: int, total: int) -> None:
        end_if_interrupted()
        if self._estimate:
            self._estimate.progress(done, total)
        counted = f"{done:,} of {total:,}" if total else f"{done:,}"
        self._show(self._stage, f"{what} {counted}")

    def training(self, event: Mapping[str, Any]) -> None:
        end_if_interrupted()
        kind = event.get("event")
        if kind == "tracking":  # the only time that it is said, so a live line will not do
            self._print(Text(f"{'':<17}W&B: {event.get('said')}", style="dim"))
            return
        if kind in {"step", "epoch"} and self._estimate:
            self._estimate.progress(int(event.get("step", 0)), int(event.get("steps", 0)))
        self._show("train", _training_text(event), plain=kind != "step" or None)

    def finished(self, stage: str, seconds: float, result: str) -> None:
        if self._estimate:
            self._estimate.finish(stage)
        self._print(Text.assemble((f"{stage:<17}", "bold"), f"{result:<21}", (f"{duration(seconds):>12}", "dim")))

    def _show(self, stage: str, detail: str, plain: bool | None = None) -> None:
        """`plain` says whether a line goes out where there is no terminal; None: when the last is old enough."""
        self._stage, self._detail = stage, detail
        if self._live is None and (
            plain or (plain is None and time.monotonic() - self._printed >= PLAIN_LINE_EVERY_SECONDS)
        ):
            self._print(self._line())

    def _line(self) -> Text:
        left = f"  about {duration(self._estimate.left())} left" if self._stage and self._estimate else ""
        return Text.assemble((f"{self._stage:<17}", "bold cyan"), self._detail, (left, "dim"))

    def _print(self, line: Text) -> None:
        self._printed = time.monotonic()
        elapsed = Text(f"{duration(self._printed - self._began):>12}  ", style="dim")
        self._console.print(elapsed + line, highlight=False, soft_wrap=True)


def _training_text(event: Mapping[str, Any]) -> str:
    if event.get("event") == "done":
        return "trained"
    if event.get("event") == "waiting":
        return "waiting: another process trains this very model"
    if event.get("event") == "resumed":
        return f"resumed after epoch {event.get('epoch')} of {event.get('epochs')}"
    if event.get("event") == "data":
        where = "read from disk step by step" if event.get("streamed") else "resident in memory"
        return f"{event.get('images', 0):,} training images, {where}"
    if event.get("event") == "memory":
        return f"the device's memory ran out: going on with {event.get('images_at_once')} images at a time"
    parts = [f"epoch {event.get('epoch')} of {event.get('epochs')}{', head only' if event.get('head_only') else ''}"]
    if (speed := event.get("images_per_second")) is not None:
        parts.append(f"{speed:,.0f} images/s")
    if (loss := event.get("loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    if (top1 := event.get("top1_validation")) is not None:
        parts.append(f"validation top-1 {top1:.3f}")
    return ", ".join(parts)
