"""A pid alone is no proof: only what was started here is ended."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments import processes
from deployments.processes import Book

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    found = Book(tmp_path / "state")
    yield found
    for process in found.marked():
        process.kill()


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_is_found_again_and_ended(book: Book, tmp_path: Path) -> None:
    started = book.start("server", [sys.executable, "-c", "print('here', flush=True); input"], os.environ, tmp_path)
    psutil.wait_procs([psutil.Process(started.pid)], timeout=10)
    assert Path(started.log).read_text().strip() == "here"
    started = book.start("server", SLEEP, os.environ, tmp_path, port=4200)
    assert book.living("server") == started
    assert book.end("server") == "ended"
    assert not lives(started.pid)
    assert book.read("server") is None
    assert book.end("server") == ""


def test_another_process_under_a_noted_pid_is_never_ended(book: Book, tmp_path: Path) -> None:
    started = book.start("worker", SLEEP, os.environ, tmp_path)
    note = tmp_path / "state" / "processes" / "worker.json"
    document = json.loads(note.read_text())
    note.write_text(json.dumps({**document, "started": document["started"] - 60}))
    assert book.living("worker") is None
    assert book.end("worker") == ""
    assert lives(started.pid)


def test_what_ignores_the_end_is_killed_and_its_children_with_it(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SECONDS_TO_END", 1.0)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    started = book.start("worker", [sys.executable, "-c", code], os.environ, tmp_path)
    deadline = time.monotonic() + 20
    while not (said := Path(started.log).read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert book.end("worker") == "killed"
    assert not lives(started.pid)
    assert not lives(int(said))


def test_what_a_dead_parent_left_is_found_by_its_mark(book: Book, tmp_path: Path) -> None:
    ours = subprocess.Popen(SLEEP, env={**os.environ, processes.MARK: book.mark})
    others = subprocess.Popen(SLEEP, env={**os.environ, processes.MARK: str(tmp_path / "another home")})
    try:
        assert [process.pid for process in book.marked()] == [ours.pid]
        assert [line.split()[0] for line in book.end_marked()] == [str(ours.pid)]
        assert not lives(ours.pid)
        assert lives(others.pid)
    finally:
        for process in (ours, others):
            process.kill()
            process.wait(10)


@pytest.mark.parametrize("text", ["", "{", '{"name": "server"}', "[1]"])
def test_a_damaged_note_is_no_process(text: str, book: Book, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "processes"
    folder.mkdir(parents=True)
    (folder / "server.json").write_text(text)
    assert book.living("server") is None
    assert book.end("server") == ""
