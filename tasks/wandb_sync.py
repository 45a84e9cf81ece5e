"""A W&B run that lies on disk, and its way to the server: beside the training, or later by a printed command.

A training only ever writes its run to disk, where no network can hold it up. Where the environment asks for it, a
process of its own follows that file and sends it (`wandb beta sync --live`, which retries while the server is away).
W&B's own mark beside the file says that a run was sent whole; a run without it can be sent by `wandb sync`.
"""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from flywheel.hosts import why_silent
from flywheel.paths import Paths

KEY = "WANDB_API_KEY"
MODE = "WANDB_MODE"
OFF = {"disabled"}
KEEPS = {"offline", "dryrun"}
SERVICE = "WANDB_SERVICE"  # would lead the sender to the training's own wandb-core
LOG = Path("logs", "send.log")
SENT = ".synced"
SECONDS_TO_ANSWER = 2.0  # of a server that is asked whether it is still there
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_END = 5.0


def is_off() -> bool:
    return _mode() in OFF


def why_kept() -> str:
    """Why the environment has runs kept on disk; "" where it has them sent: with a key, or by WANDB_MODE=online."""
    if _mode():
        return f"{MODE} is {_mode()}" if _mode() in KEEPS else ""
    return "" if os.environ.get(KEY) else f"{KEY} is not set"


class Sender:
    """Sends one run while it is written. It ends with this process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / LOG
        self._log.parent.mkdir(parents=True, exist_ok=True)
        send = [sys.executable, "-P", "-m", "wandb", "beta", "sync", "--live", str(folder)]
        environment = {name: value for name, value in os.environ.items() if name != SERVICE}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("with_parent.py")), *send],
                env=environment,
                stdin=subprocess.PIPE,  # never written to: its end tells the sender that we are gone
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, url: str, seconds: float) -> str:
        """Wait until the finished run is sent; why it is not, or "" where it is.

        A server that is gone, or refuses the key, is noticed within 3 seconds; one that answers but takes nothing,
        after `seconds`.
        """
        deadline = time.monotonic() + seconds
        problem = f"not all of it was taken within {seconds:.0f} s"
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(SECONDS_BETWEEN_LOOKS, max(0.0, deadline - time.monotonic())))
                problem = self._error() or self._last_line()
                break
            if found := self._error() or why_silent(url, SECONDS_TO_ANSWER):
                problem = found
                break
        self.end()
        return "" if is_sent(self._folder) else f"{url}: {problem}"

    def end(self) -> None:
        """Also its wandb-core, which ends with it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process.stdin:
            self._process.stdin.close()

    def address(self) -> str:
        """Where the run can be looked at; "" where the server has not said so."""
        found = re.search(r"View run .* at (\S+)", self._said())
        return found.group(1) if found else ""

    def _error(self) -> str:
        """The first one that W&B reported; it may go on trying for long."""
        found = re.search(r"^wandb: ERROR (.+)$", self._said(), re.MULTILINE)
        return found.group(1) if found else ""

    def _last_line(self) -> str:
        lines = self._said().strip().splitlines() or [f"it ended with exit code {self._process.returncode}"]
        return re.sub(r"^(wandb: |[\w.]+Error: )", "", lines[-1])

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


def is_sent(folder: Path) -> bool:
    return any(folder.glob(f"*.wandb{SENT}"))


def sync_command(run: str, paths: Paths) -> str:
    """The line that sends a run, from a shell in the project's folder; "" where there is nothing left to send.

    `run` is its folder as the model's record has it.
    """
    folder = paths.home / run
    kept = [file for file in folder.glob("*.wandb") if file.stat().st_size] if run else []
    if not kept or is_sent(folder) or is_off():
        return ""
    state = _shown(paths.state)
    names = {"WANDB_DIR": state, "WANDB_CACHE_DIR": f"{state}/wandb-cache", "WANDB_ERROR_REPORTING": "false"}
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in names.items())
    program = Path(sys.executable).with_name("wandb")
    return f"{environment} {shlex.quote(_shown(program))} sync {shlex.quote(_shown(folder))}"


def _mode() -> str:
    return os.environ.get(MODE, "").strip().lower()


def _shown(path: Path) -> str:
    """Relative to where the user stands, for what lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
