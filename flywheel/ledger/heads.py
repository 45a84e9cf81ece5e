"""The chain's last link, also kept in a file outside the database: what was cut off at the end is told by it.

The file is written after each commit. A process that is killed between the two leaves it behind: the links after it
still chain, so no harm is done, and the next write mends it. A file that is ahead means that rows are gone.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from flywheel.identity import canonical_json
from flywheel.ledger.chain import Link, find_link
from flywheel.ledger.entries import LedgerError, utc_now

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Head:
    """The last link that this machine has seen written."""

    position: int  # of the link, so it is also the number of rows
    hash: str
    at: datetime  # UTC


_Heads = TypeAdapter(dict[str, Head])


class HeadFile:
    """The heads of the ledgers that were written from here, by ledger id: two databases are never confused."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Head]:
        """Raises LedgerError where the file can't be read as what it is."""
        try:
            return _Heads.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise LedgerError(
                f"{self.path}: the ledger's head expected, unreadable ({type(error).__name__}). "
                "Without it nobody can tell whether the last rows are still there. Find out who changed it, then "
                "remove it, and the next decision writes a new one."
            ) from error

    def advance(self, ledger_id: str, link: Link) -> None:
        """Write down the last link, unless another process wrote down a later one. Called after the commit.

        The rows are safe by then, so a file that can't be written is only logged: the next write mends it.
        """
        try:
            with self._locked():
                heads = self.read()
                if ledger_id not in heads or heads[ledger_id].position < link.position:
                    self._write({**heads, ledger_id: Head(link.position, link.hash, utc_now())})
        except (OSError, LedgerError) as error:
            log.warning("%s: the ledger's head could not be written (%s); the rows are", self.path, error)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, heads: dict[str, Head]) -> None:
        """The old file or the new one, never half of one; after a power cut too."""
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(canonical_json(_Heads.dump_python(heads, mode="json")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)


def demand_head(connection: Connection, head: Head | None, path: Path) -> None:
    """Raise LedgerError where the chain no longer holds the link that was written down: nothing is added to a ledger
    that has lost rows, as the new ones would cover the loss."""
    if head is None:
        return
    link = find_link(connection, head.position)
    if link is None or link.hash != head.hash:
        raise LedgerError(
            f"The ledger has lost rows, or they were changed: {path} saw {head.position:,} of them at "
            f"{head.at:%Y-%m-%d %H:%M} UTC. 'make verify-ledger' says more. Nothing is added until then; where an "
            "older copy was put back on purpose, move that file away."
        )
