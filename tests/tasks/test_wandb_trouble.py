"""W&B in trouble beside a real training: it ends as ever, says what became of the run, and the run can be sent later.

The server is a stand-in on this machine, to which W&B's own programs talk; the full disk is a real one of a megabyte.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flywheel.model.folder import verify
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, TrainedModel
from flywheel.settings import PROJECT, Recipe
from tasks.training import train
from tasks.wandb_sync import is_sent, sync_command
from tests.tasks.wandb_server import KEY, WandbServer

RECIPE = Recipe(epochs=20, batch_size=16, flip=False, shift=1)
SECONDS_AT_THE_END = 30.0  # 3 are meant; a busy machine needs more, and W&B itself would wait without end


class Trained:
    """One training in a home of its own: its model, what was said of W&B, and how long it took after the last epoch."""

    def __init__(self, version: DatasetVersion, home: Path, on_event=lambda event: None) -> None:
        self.paths = Paths(home)
        self.events: list[dict] = []
        self._times: list[float] = []

        def listen(event: dict) -> None:
            self.events.append(event)
            self._times.append(time.monotonic())
            on_event(event)

        self.model: TrainedModel = train(version, RECIPE, "cpu", self.paths, listen)

    @property
    def told(self) -> dict:
        (event,) = [event for event in self.events if event["event"] == "tracking"]
        return event

    @property
    def seconds_at_the_end(self) -> float:
        last_epoch = max(number for number, event in enumerate(self.events) if event["event"] == "epoch")
        return self._times[-1] - self._times[last_epoch]

    @property
    def folder(self) -> Path:
        return self.paths.home / self.model.wandb_run

    @property
    def left(self) -> list[str]:
        """Every living process that W&B began for this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.paths.home) in process.environ().get("WANDB_DATA_DIR", ""):
                    found.append(" ".join(process.cmdline()))
        return found

    def text(self) -> bytes:
        """All that was written in the home, W&B's caches and logs included, and all that was told."""
        files = [file.read_bytes() for file in self.paths.home.rglob("*") if file.is_file()]
        return b"\n".join([*files, repr(self.events).encode()])


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a shell where nothing of W&B is set."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def server(environment: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as begun:
        environment.setenv("WANDB_API_KEY", KEY)
        environment.setenv("WANDB_BASE_URL", begun.url)
        yield begun


def paste(command: str) -> subprocess.CompletedProcess[str]:
    """A printed command, in a shell in the project's folder."""
    return subprocess.run(
        ["sh", "-c", command], cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def test_with_a_key_the_run_is_sent_while_it_trains_and_nothing_is_left(version, tmp_path, server) -> None:
    trained = Trained(version, tmp_path)
    run = next(iter(server.runs))
    assert trained.told == {"event": "tracking", "said": f"sent to {server.url}/someone/flywheel/runs/{run}"}
    assert server.runs[run]["displayName"] == trained.model.id
    assert server.is_complete(run)
    assert {"loss", "top1_validation", "learning_rate"} <= set(server.rows(run)[-2])
    assert {version.id, trained.model.id} <= set(server.artifacts)
    assert is_sent(trained.folder)
    assert sync_command(trained.model.wandb_run, trained.paths) == ""
    assert trained.left == []
    assert server.keys == {KEY}
    assert KEY.encode() not in trained.text()


def test_a_server_that_goes_in_mid_run_costs_seconds_and_the_printed_command_sends_all(
    version, tmp_path, server
) -> None:
    server.goes_with_the_first_rows = True
    trained = Trained(version, tmp_path / "fly wheel")
    run = next(iter(server.runs))
    assert not server.is_there
    assert verify(trained.model.folder) == trained.model
    assert trained.told["said"].startswith(f"kept offline: {server.url}: ")
    assert "refused" in trained.told["said"]
    assert trained.seconds_at_the_end < SECONDS_AT_THE_END
    assert trained.left == []
    assert KEY.encode() not in trained.text()

    server.begin()
    sent = paste(trained.told["command"])
    assert sent.returncode == 0, sent.stderr
    assert [row["_step"] for row in server.rows(run)] == sorted({row["_step"] for row in server.rows(run)})
    assert sum("epoch" in row for row in server.rows(run)) >= RECIPE.epochs
    assert server.is_complete(run)
    assert {version.id, trained.model.id} <= set(server.artifacts)
    assert is_sent(trained.folder)
    assert sync_command(trained.model.wandb_run, trained.paths) == ""


@pytest.mark.slow
def test_a_silent_server_holds_nothing_up_at_the_start_and_is_given_up_within_seconds(
    version, tmp_path, environment
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment.setenv("WANDB_API_KEY", KEY)
        environment.setenv("WANDB_BASE_URL", url)
        trained = Trained(version, tmp_path)
    assert trained.told["said"].startswith(f"kept offline: {url}: ")
    assert trained.told["command"] == sync_command(trained.model.wandb_run, trained.paths) != ""
    assert trained.seconds_at_the_end < SECONDS_AT_THE_END
    assert trained.left == []
    assert KEY.encode() not in trained.text()


@pytest.mark.slow
@pytest.mark.parametrize(("status", "reason"), [(401, "user is not logged in"), (503, "status 503")])
def test_a_server_that_refuses_the_key_or_is_out_of_order_is_given_up_within_seconds(
    version, tmp_path, server, status, reason
) -> None:
    server.refuses = status
    trained = Trained(version, tmp_path)
    assert trained.told["said"] == f"kept offline: {server.url}: {reason}"
    assert trained.told["command"]
    assert trained.seconds_at_the_end < SECONDS_AT_THE_END
    assert KEY.encode() not in trained.text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "flywheel-test", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            return


@pytest.mark.slow
def test_a_disk_that_fills_up_where_wandb_writes_is_one_line(version, tmp_path, environment, small_disk) -> None:
    environment.setenv("WANDB_DIR", str(small_disk))

    def fill_after_the_second_epoch(event: dict) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            fill(small_disk)

    trained = Trained(version, tmp_path / "home", fill_after_the_second_epoch)
    assert verify(trained.model.folder) == trained.model
    assert "No space left on device" in trained.told["said"]
    assert "\n" not in trained.told["said"]
    log = (trained.model.folder / "fit.log").read_text()
    assert log.count("No space left on device") == 1
    assert "Traceback" not in log
    assert trained.seconds_at_the_end < SECONDS_AT_THE_END


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_wandbs_own_process_may_go_in_mid_run(version, tmp_path, environment, number) -> None:
    def hit_after_the_second_epoch(event: dict) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            (training,) = [each for each in psutil.Process().children() if "tasks.fit" in each.cmdline()]
            deadline = time.monotonic() + 60
            while not (cores := [each for each in training.children() if each.name() == "wandb-core"]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(cores[0].pid, number)

    trained = Trained(version, tmp_path, hit_after_the_second_epoch)
    assert verify(trained.model.folder) == trained.model
    assert trained.told["said"].startswith("not all of the run was kept: ")
    assert trained.seconds_at_the_end < 2 * SECONDS_AT_THE_END
    assert trained.left == []
