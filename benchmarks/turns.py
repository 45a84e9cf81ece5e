"""Programs that take turns: one runs at a time, to its next mark, while all others are stopped where they are.

They meet the same machine within seconds of each other, start up once, and what they do before their first mark isn't
counted. A turn's CPU seconds are those of the program and all its children.
"""

import contextlib
import math
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from scipy.stats import t as student

LONGEST_TURN_SECONDS = 600.0
LONGEST_END_SECONDS = 120.0
LINES_KEPT = 30  # of the output, for the error


class TurnError(RuntimeError):
    """A program that ended before it was through; the message holds its last lines."""


@dataclass(frozen=True)
class Program:
    """What is run, and how its output tells that it has been through its images once more."""

    name: str
    command: tuple[str, ...]
    is_mark: Callable[[str], bool]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    cpu_seconds: float
    wall_seconds: float


def take_turns(programs: Sequence[Program], rounds: int) -> dict[str, list[Turn]]:
    """Every program's turns, one a round, in an order that is reversed from round to round.

    A program must give `rounds` + 1 marks, the first of them for its start, and then end well. Raises TurnError.
    """
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(Running(program)) for program in programs]
        for one in running:
            one.turn()
        turns: dict[str, list[Turn]] = {program.name: [] for program in programs}
        for number in range(rounds):
            for one in running if number % 2 == 0 else reversed(running):
                turn = one.turn()
                turns[one.program.name].append(turn)
                print(f"{number + 1}: {one.program.name} {turn.cpu_seconds:.2f} CPU-s", flush=True)
        for one in running:
            one.end()
    return turns


class Running:
    """A program's process group, which is stopped but for its turns."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._used = 0.0

    def __enter__(self) -> "Running":
        self._process = subprocess.Popen(
            self.program.command,
            cwd=self.program.folder,
            env={**os.environ, **self.program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, *error: object) -> None:
        family = self._family()
        self._signal(signal.SIGKILL)
        for member in family:  # a child may have left the group
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def turn(self) -> Turn:
        """Let it run until its next mark. Raises TurnError where it ends before, or takes too long."""
        began = time.perf_counter()
        self._signal(signal.SIGCONT)
        watchdog = threading.Timer(LONGEST_TURN_SECONDS, self._signal, (signal.SIGKILL,))
        watchdog.start()
        try:
            self._read_until_mark()
        finally:
            watchdog.cancel()
        used, before = self._cpu_seconds(), self._used
        self._signal(signal.SIGSTOP)
        self._used = used
        return Turn(used - before, time.perf_counter() - began)

    def end(self) -> None:
        """Let it run to its own end. Raises TurnError where that is none with exit code 0."""
        self._signal(signal.SIGCONT)
        watchdog = threading.Timer(LONGEST_END_SECONDS, self._signal, (signal.SIGKILL,))
        watchdog.start()
        assert self._process.stdout is not None
        self._lines.extend(self._process.stdout)
        code = self._process.wait()
        watchdog.cancel()
        if code:
            raise self._failed()

    def _read_until_mark(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            if self.program.is_mark(line):
                return
        raise self._failed()

    def _failed(self) -> TurnError:
        last = "".join(self._lines)
        return TurnError(f"{self.program.name} ended with exit code {self._process.wait()}. Its last lines:\n{last}")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def _cpu_seconds(self) -> float:
        """Of the process, its living descendants, and those that they have waited for."""
        total = 0.0
        for member in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(member.cpu_times()[:4])  # user, system, and the children's
        return total


def ratio(more: Sequence[float], less: Sequence[float]) -> dict[str, float]:
    """How many times as much the first series takes as the second, round by round, with a 95 % interval.

    Of the logarithms' mean, by Student's t: ratios multiply. Needs at least two rounds.
    """
    logs = [math.log(one / other) for one, other in zip(more, less, strict=True)]
    mean = math.fsum(logs) / len(logs)
    variance = math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1)
    half = float(student.ppf(0.975, len(logs) - 1)) * math.sqrt(variance / len(logs))
    return {
        "value": round(math.exp(mean), 3),
        "low": round(math.exp(mean - half), 3),
        "high": round(math.exp(mean + half), 3),
    }
