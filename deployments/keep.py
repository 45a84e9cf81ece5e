"""`python -m deployments.keep`: starts the server, the reports or the worker again when one of them died, and takes up
runs that crashed with them."""

import logging
import signal
import sys
import time

import httpx

from deployments.processes import ProcessError
from deployments.registration import Registration
from deployments.resume import Resumer
from deployments.stack import REPORTS, SERVER, WORKER, Stack
from flywheel.settings import Settings

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_BETWEEN_RUNS = 30.0  # two looks at the runs
LONGEST_WAIT_SECONDS = 300.0

log = logging.getLogger("keeper")


def main() -> int:
    """Until it is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each request
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stack, wait, looked = Stack(Settings()), SECONDS_BETWEEN_LOOKS, time.monotonic()
    resumer = Resumer(stack.api, Registration(stack).names)
    while True:
        time.sleep(wait)
        # what can't be started is tried more and more seldom
        wait = SECONDS_BETWEEN_LOOKS if start_the_dead(stack) else min(wait * 2, LONGEST_WAIT_SECONDS)
        if time.monotonic() - looked > SECONDS_BETWEEN_RUNS:
            looked = time.monotonic()
            take_up(resumer)


def start_the_dead(stack: Stack) -> bool:
    """Start again what was noted as started and lives no more. False where something could not be started.

    What `make down` ended is not noted any more, so it stays ended.
    """
    for name in (SERVER, REPORTS, WORKER):
        noted = stack.book.read(name)
        if noted is None or noted.alive:
            continue
        try:
            with stack.book.alone():
                if stack.book.read(name) == noted:
                    again = stack.start(name)
                    log.warning("%s (pid %d) died; started again, pid %d", name, noted.pid, again.pid)
        except ProcessError as error:
            log.error("%s (pid %d) died and can't be started: %s", name, noted.pid, error)
            return False
    return True


def take_up(resumer: Resumer) -> None:
    """A look at the runs; a server that is just being started is asked another time."""
    try:
        resumer.look()
    except httpx.HTTPError as error:
        log.info("the server can't be asked how the runs stand: %s", error)


if __name__ == "__main__":
    sys.exit(main())
