"""Claims and leases: who may act on a decision, and who acts now.

A claim is for good: what was claimed once is never acted on again. A lease is for a while, and is renewed while its
holder lives: a process that is killed lets go of it by saying nothing more. Times are the holder's and the reader's
clocks, so machines that share a ledger need clocks that agree within seconds.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from flywheel.ledger.database import PREDICTIONS_LOCK, database_url, open_engine, writing
from flywheel.ledger.entries import LedgerError, utc_now
from flywheel.ledger.lease_tables import claims, leases
from flywheel.settings import Settings

log = logging.getLogger(__name__)

RENEWALS = 5  # in the time of a lease


class LeaseLost(RuntimeError):  # noqa: N818 - it reads as what happened
    """Somebody else holds it now, or it could not be renewed in time."""


def open_leases(where: Settings | str) -> "Leases":
    """The claims and leases of these settings, or at a URL. Raises LedgerError where the database can't be used."""
    engine, _ = open_engine(database_url(where.ledger_url if isinstance(where, Settings) else where), create=True)
    return Leases(engine)


class Leases:
    """Every method is a transaction of its own, under the writer's lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, name: str, holder: str, at: datetime | None = None) -> str:
        """Take it unless it is taken; returns who holds it, for good."""
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            found = connection.execute(select(claims.c.holder).where(claims.c.name == name)).scalar_one_or_none()
            if found is not None:
                return str(found)
            connection.execute(insert(claims).values(name=name, holder=holder, at=at or utc_now()))
        return holder

    def claimant(self, name: str) -> str:
        """Who claimed it; empty where nobody did."""
        with self._engine.begin() as connection:
            query = select(claims.c.holder).where(claims.c.name == name)
            return connection.execute(query).scalar_one_or_none() or ""

    def take(self, name: str, holder: str, seconds: float, now: datetime | None = None) -> str:
        """Hold it for so long, or hold it longer; returns who holds it now: another, where it is neither free nor run
        out."""
        moment = now or utc_now()
        until = moment + timedelta(seconds=seconds)
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
            if row is None:
                connection.execute(insert(leases).values(name=name, holder=holder, until=until))
            elif row.holder != holder and row.until > moment:
                return str(row.holder)
            else:
                connection.execute(update(leases).where(leases.c.name == name).values(holder=holder, until=until))
        return holder

    def holder(self, name: str, now: datetime | None = None) -> str:
        """Who holds it at this moment; empty where nobody does."""
        with self._engine.begin() as connection:
            query = select(leases).where(leases.c.name == name)
            row = connection.execute(query).one_or_none()
        return str(row.holder) if row is not None and row.until > (now or utc_now()) else ""

    def give_back(self, name: str, holder: str) -> None:
        """No-op where another holds it."""
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))

    @contextlib.contextmanager
    def held(self, name: str, holder: str, seconds: float) -> Iterator["Held"]:
        """Renewed in a thread while the block runs, and given back at its end; after a kill it runs out by itself.

        Raises LeaseLost where another holds it.
        """
        other = self.take(name, holder, seconds)
        if other != holder:
            raise LeaseLost(f"{name}: held by {other}.")
        held = Held(self, name, holder, seconds)
        held.start()
        try:
            yield held
        finally:
            held.stop()
            with contextlib.suppress(SQLAlchemyError, LedgerError, OSError):  # else it runs out
                self.give_back(name, holder)

    def close(self) -> None:
        self._engine.dispose()


class Held:
    """A lease that is being renewed."""

    def __init__(self, leases: Leases, name: str, holder: str, seconds: float) -> None:
        self._leases, self._name, self._holder, self._seconds = leases, name, holder, seconds
        self._until = utc_now() + timedelta(seconds=seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self.lost = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def demand(self) -> None:
        """Raises LeaseLost where the lease is another's now, or could not be renewed until it ran out."""
        if self.lost:
            raise LeaseLost(self.lost)

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / RENEWALS):
            try:
                other = self._leases.take(self._name, self._holder, self._seconds)
            except (SQLAlchemyError, LedgerError, OSError) as error:
                log.warning("%s could not be renewed: %s", self._name, " ".join(str(error).split())[:300])
                if utc_now() > self._until:
                    self.lost = f"{self._name} ran out: it could not be renewed."
                    return
                continue
            if other != self._holder:
                self.lost = f"{self._name} is held by {other} now."
                return
            self._until = utc_now() + timedelta(seconds=self._seconds)


def lease_until(connection: Connection, name: str) -> datetime | None:
    """When a lease runs out; None where there is none."""
    return connection.execute(select(leases.c.until).where(leases.c.name == name)).scalar_one_or_none()
