"""Wall and CPU seconds of a process and all its children, by part, from the moment its parent started it."""

import json
import os
import resource
import time
from pathlib import Path

import psutil

STARTED, LEFT_IN = "BENCHMARK_STARTED", "BENCHMARK_LEFT_IN"  # environment: seconds since the epoch; a file's path


class Clock:
    def __init__(self) -> None:
        self._wall, self._cpu = float(os.environ[STARTED]), 0.0
        self._parts: dict[str, dict[str, float]] = {}

    def lap(self, part: str) -> None:
        """What went by since the last lap belongs to this part; a part may come more than once."""
        wall, cpu = time.time(), cpu_seconds()
        known = self._parts.setdefault(part, {"wall": 0.0, "cpu": 0.0})
        known["wall"] += wall - self._wall
        known["cpu"] += cpu - self._cpu
        self._wall, self._cpu = wall, cpu

    def leave(self) -> None:
        """For the parent, who adds what the exit takes."""
        said = {"parts": self._parts, "wall": self._wall, "cpu": self._cpu}
        Path(os.environ[LEFT_IN]).write_text(json.dumps(said), encoding="utf-8")


def cpu_seconds() -> float:
    """Of this process, of its children that have ended, and of those that run."""
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(used.ru_utime + used.ru_stime for used in ended)
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
        except psutil.Error:
            continue
    return seconds
