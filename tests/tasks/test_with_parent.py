"""A command started for a parent ends with it, also when the parent is killed with -9."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil

SCRIPT = Path(__file__).resolve().parents[2] / "tasks" / "with_parent.py"
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]

PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, {str(SCRIPT)!r}, *{SLEEPER!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def test_kill_of_the_parent_ends_the_command() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    wrapper = psutil.Process(int(parent.stdout.readline()))
    family = [wrapper, *wrapper.children(recursive=True)]
    assert len(family) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_sigterm_reaches_the_command_and_its_end_is_told() -> None:
    process = subprocess.Popen([sys.executable, SCRIPT, *SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert process.wait(10) != 0


def test_the_exit_code_is_the_commands_own() -> None:
    command = [sys.executable, SCRIPT, sys.executable, "-c", "raise SystemExit(7)"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.wait(10) == 7
