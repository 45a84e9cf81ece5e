"""A folder is whole or not there, whenever the builder is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.data.folders import BUILDING, building, read_json, sweep, temporary_folder, write_json

BUILDER = """
import sys, time
from pathlib import Path
from flywheel.data.folders import building
with building(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("building", flush=True)
    time.sleep(60)
"""


def leftovers(parent: Path) -> list[Path]:
    return list(parent.glob(f"{BUILDING}*"))


def test_the_name_appears_when_the_block_ends(tmp_path: Path) -> None:
    with building(tmp_path / "thing") as folder:
        (folder / "file").write_text("whole")
        assert not (tmp_path / "thing").exists()
    assert (tmp_path / "thing" / "file").read_text() == "whole"
    assert not leftovers(tmp_path)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), building(tmp_path / "thing") as folder:  # noqa: PT012
        (folder / "file").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_folder_of_that_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "old").write_text("old")
    with building(tmp_path / "thing") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["new"]
    assert not leftovers(tmp_path)


def test_what_a_killed_builder_left_is_swept_but_not_what_is_being_built(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "thing")]
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    try:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "building\n"
        assert sweep(tmp_path) == 0, "its builder lives"
        assert len(leftovers(tmp_path)) == 1
    finally:
        os.kill(builder.pid, signal.SIGKILL)
        builder.communicate()
    assert not (tmp_path / "thing").exists()
    assert sweep(tmp_path) == 1
    assert not leftovers(tmp_path)


def test_a_folder_held_by_a_second_task_of_this_process_is_not_swept(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        assert sweep(tmp_path) == 0
        assert folder.exists()


def test_a_half_written_manifest_is_none(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"b": 1, "a": "é"})
    assert (tmp_path / "m.json").read_text() == '{"a":"é","b":1}\n'
    (tmp_path / "half.json").write_text('{"a":')
    assert read_json(tmp_path / "half.json") is None
    assert read_json(tmp_path / "none.json") is None
