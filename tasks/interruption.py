"""Ctrl-C ends a run at the next stage at the latest, whoever swallows the exception on its way.

Prefect waits for its server in other threads and loops, where a KeyboardInterrupt may be lost or come out as another
error. So the signal is also remembered, and every stage and every sign of progress asks for it.
"""

import signal
import threading
from collections.abc import Callable

SECONDS_TO_END = 12.0  # a training process and a served Bento are ended in less

_asked = threading.Event()


def listen(at_last: Callable[[], object]) -> None:
    """From now on SIGINT is remembered. Only a process that runs flows for a person at a terminal does this.

    `at_last` is called on a thread of its own when SECONDS_TO_END later the process is still there: a terminal's Ctrl-C
    reaches Prefect's embedded server too, and Prefect then tries for minutes to tell it of the end.
    """
    _asked.clear()

    def remember(*_: object) -> None:
        if not _asked.is_set():
            _asked.set()
            timer = threading.Timer(SECONDS_TO_END, at_last)
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, remember)


def was_interrupted() -> bool:
    return _asked.is_set()


def end_if_interrupted() -> None:
    """Raise KeyboardInterrupt where one was asked for."""
    if _asked.is_set():
        raise KeyboardInterrupt
