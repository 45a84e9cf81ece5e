"""How the prediction log of the whole service stands: each worker notes its own figures where all of them can read."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from bentos.classifier.crew import identity, is_alive
from bentos.classifier.prediction_log import LogState

log = logging.getLogger(__name__)


class LogNotes:
    """One a worker. `folder` is the crew's; `state` tells of this worker's own log."""

    def __init__(self, folder: Path, state: Callable[[], LogState]) -> None:
        self._folder = folder / "log"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._own = self._folder / f"{identity(os.getpid())}.json"
        self._state = state
        self._noted: LogState | None = None

    def note(self) -> LogState:
        """This worker's figures; the others see them from now on, or those before where the disk takes nothing."""
        state = self._state()
        if state != self._noted:
            part = self._own.with_suffix(".part")
            try:
                part.write_text(json.dumps(asdict(state)), encoding="utf-8")
                part.replace(self._own)
                self._noted = state
            except OSError as error:
                log.debug("the log's figures could not be noted: %s", error)
        return state

    def together(self) -> LogState:
        """Of all workers: what one that is gone wrote or lost counts, what it held does not. It held rows in memory, or
        in a spool that another takes over. Its trouble is over, too."""
        living, gone = [self._state()], []
        for process, state in self._others():
            (living if is_alive(process) else gone).append(state)
        return LogState(
            waiting=sum(state.waiting for state in living),
            written=sum(state.written for state in (*living, *gone)),
            spooled=sum(state.spooled for state in living),
            dropped=sum(state.dropped for state in (*living, *gone)),
            trouble=next((state.trouble for state in living if state.trouble), ""),
        )

    def _others(self) -> Iterator[tuple[str, LogState]]:
        for note in sorted(self._folder.glob("*.json")):
            if note != self._own:
                try:
                    yield note.stem, LogState(**json.loads(note.read_bytes()))
                except (OSError, ValueError, TypeError) as error:  # the last worker may take the folder away
                    log.debug("%s: %s", note, error)
