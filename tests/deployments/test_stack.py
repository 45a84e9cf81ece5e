"""A port that is taken is said by the setting that moves it; a part that dies at its start is said by its log."""

import os
import socket
import sys
from pathlib import Path

import pytest

from deployments.processes import Book, ProcessError
from deployments.stack import REPORTS, SERVER, WORKER, Stack, demand_port, is_free, wait_until_healthy
from flywheel.settings import Settings


@pytest.mark.parametrize(("name", "setting"), [(SERVER, "FLYWHEEL_PREFECT_PORT"), (REPORTS, "FLYWHEEL_REPORTS_PORT")])
def test_a_taken_port_names_the_setting_and_a_free_port(name: str, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError) as caught:
            demand_port(name, port)
    said = str(caught.value)
    assert f"port {port}" in said
    proposed = int(said.rpartition(f"{setting}=")[2])
    assert proposed != port
    assert is_free(proposed)


def test_a_part_without_a_port_needs_none() -> None:
    demand_port(WORKER, 0)


def test_a_part_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no database here')"]
    started = Book(tmp_path).start(SERVER, command, os.environ, tmp_path)
    with pytest.raises(ProcessError, match="ended while it started") as caught:
        wait_until_healthy(started, "http://127.0.0.1:9/health", 20)
    assert "no database here" in str(caught.value)


def test_another_shell_finds_what_runs_at_the_port_where_it_runs(tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path, prefect_port=4200, reports_port=4201))
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    stack.book.start(REPORTS, sleeper, os.environ, tmp_path, 4999)
    try:
        assert (stack.as_it_runs().port(REPORTS), stack.as_it_runs().port(SERVER)) == (4999, 4200)
        assert stack.as_it_runs(asked={"reports_port"}).port(REPORTS) == 4201
    finally:
        stack.book.end(REPORTS)
    assert stack.as_it_runs().port(REPORTS) == 4201
