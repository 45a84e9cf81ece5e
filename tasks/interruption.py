"""Ctrl-C ends a run at the next stage at the latest, whoever swallows the exception on its way.

Prefect waits for its server in other threads and loops, where a KeyboardInterrupt may be lost or come out as another
error. So the signal is also remembered, and every stage and every sign of progress asks for it.
"""

import signal
import threading

_asked = threading.Event()


def listen() -> None:
    """From now on SIGINT is remembered. Only a process that runs flows for a person at a terminal does this."""
    _asked.clear()
    signal.signal(signal.SIGINT, _remember)


def _remember(*_: object) -> None:
    _asked.set()
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    return _asked.is_set()


def end_if_interrupted() -> None:
    """Raise KeyboardInterrupt where one was asked for."""
    if _asked.is_set():
        raise KeyboardInterrupt
