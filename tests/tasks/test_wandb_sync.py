"""Which runs are kept and which are sent, and the line that sends a kept one."""

import shlex
from pathlib import Path

import pytest

from flywheel.paths import Paths
from tasks.wandb_sync import is_off, sync_command, why_kept

RUN = ".flywheel/wandb/offline-run-20261122_202853-4c5izmhh"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project's home, with a kept run."""
    folder = tmp_path / "fly wheel" / RUN
    folder.mkdir(parents=True)
    (folder / "run-4c5izmhh.wandb").write_bytes(b":W&B")
    return tmp_path / "fly wheel"


@pytest.mark.parametrize(
    ("mode", "key", "kept"),
    [
        (None, None, "WANDB_API_KEY is not set"),
        (None, "", "WANDB_API_KEY is not set"),
        (None, "a key", ""),
        ("online", None, ""),
        ("offline", "a key", "WANDB_MODE is offline"),
        ("dryrun", "a key", "WANDB_MODE is dryrun"),
    ],
)
def test_a_run_is_sent_with_a_key_or_where_the_user_says_so(
    mode: str | None, key: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert why_kept() == kept
    assert not is_off()


def test_a_kept_run_has_a_command_for_a_shell_in_the_projects_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    words = shlex.split(sync_command(RUN, Paths(home)))
    assert words[0] == "WANDB_DIR=.flywheel"
    assert words[-2:] == ["sync", RUN]
    monkeypatch.chdir(home.parent.parent)
    assert shlex.split(sync_command(RUN, Paths(home)))[-1] == str((home / RUN).relative_to(home.parent.parent))


def test_what_is_sent_empty_or_not_there_has_none(home: Path) -> None:
    assert sync_command("", Paths(home)) == ""
    assert sync_command(".flywheel/wandb/offline-run-2", Paths(home)) == ""
    (file,) = (home / RUN).glob("*.wandb")
    file.with_suffix(".wandb.synced").touch()
    assert sync_command(RUN, Paths(home)) == ""
    file.with_suffix(".wandb.synced").unlink()
    assert sync_command(RUN, Paths(home)) != ""
    file.write_bytes(b"")
    assert sync_command(RUN, Paths(home)) == ""


def test_where_wandb_is_disabled_nothing_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert is_off()
    assert sync_command(RUN, Paths(home)) == ""
