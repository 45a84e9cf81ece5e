"""Ctrl-C is remembered, so that a library that swallows the exception delays the end by one stage at most."""

import os
import signal

import pytest

from tasks.interruption import end_if_interrupted, listen, was_interrupted


@pytest.fixture(autouse=True)
def _restore() -> object:
    before = signal.getsignal(signal.SIGINT)
    yield
    listen()
    signal.signal(signal.SIGINT, before)


def test_nobody_asked() -> None:
    listen()
    end_if_interrupted()
    assert not was_interrupted()


def test_a_swallowed_interrupt_comes_again_at_the_next_question() -> None:
    listen()
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("the signal raises at once, too")
    assert was_interrupted()
    with pytest.raises(KeyboardInterrupt):
        end_if_interrupted()
