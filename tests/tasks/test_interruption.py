"""Ctrl-C is remembered, so that a library that swallows the exception delays the end by one stage at most."""

import os
import signal
import subprocess
import sys

import pytest

from tasks.interruption import end_if_interrupted, listen, was_interrupted
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _restore() -> object:
    before = signal.getsignal(signal.SIGINT)
    yield
    listen(lambda: None)
    signal.signal(signal.SIGINT, before)


def test_nobody_asked() -> None:
    listen(lambda: None)
    end_if_interrupted()
    assert not was_interrupted()


def test_a_swallowed_interrupt_comes_again_at_the_next_question() -> None:
    listen(lambda: None)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("the signal raises at once, too")
    assert was_interrupted()
    with pytest.raises(KeyboardInterrupt):
        end_if_interrupted()


def test_a_process_that_does_not_end_is_ended() -> None:
    code = (
        "import os, time, tasks.interruption as i; i.SECONDS_TO_END = 0.2; i.listen(lambda: os._exit(130))\n"
        "try:\n    print('up', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
