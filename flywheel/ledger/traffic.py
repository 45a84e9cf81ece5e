"""What a release answered since somebody looked last, read by position: what a look costs does not grow with the log.

Positions follow the order of commits, so who has read up to one has missed none before it.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, select

from flywheel.ledger.database import database_url, open_engine
from flywheel.ledger.entries import Champion
from flywheel.ledger.prediction_tables import label_requests, labels, predictions, servings
from flywheel.ledger.predictions import SEEKS, PredictionRow, Role, last_position
from flywheel.settings import Settings

AUDIT = "audit"  # begins the reason of a request whose prediction was drawn at random
CLOCKS_APART_SECONDS = 3600  # of two machines, at most
MOST_LABELS = 10_000
LOOKED_UP = 50_000  # positions of one look, at most


@dataclass(frozen=True)
class Traffic:
    """The champion's answers between two positions: all of them, or as many as were asked for, evenly spread."""

    after: int
    to: int
    rows: tuple[PredictionRow, ...]  # in order
    looked_up: int  # positions
    found: int  # answers of the champion at these

    @property
    def is_counted(self) -> bool:
        """Whether every position was looked up."""
        return self.looked_up == self.to - self.after

    @property
    def answers(self) -> int:
        """How many lie between the two; estimated where not all positions were looked up."""
        return self.found if self.is_counted else round(self.found * (self.to - self.after) / self.looked_up)


@dataclass(frozen=True)
class Judged:
    """An answer whose true label came in."""

    prediction_id: str
    predicted: int
    label: str
    audited: bool  # asked for after an alarm, of answers drawn at random


def open_traffic(where: Settings | str) -> "TrafficReader":
    """The prediction log of these settings, or at a URL. Raises LedgerError where the database can't be used."""
    engine, _ = open_engine(database_url(where.ledger_url if isinstance(where, Settings) else where), create=True)
    return TrafficReader(engine)


class TrafficReader:
    """Asks the prediction log's tables. Every question is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def before(self, moment: datetime) -> int:
        """A position before which nothing was answered after this moment, by whichever machine's clock.

        Found by halving: times follow positions but for the clocks and the few seconds that a row waits to be written.
        """
        wanted = (moment.timestamp() - CLOCKS_APART_SECONDS) * 1e6
        with self._engine.begin() as connection:
            low, high = 0, last_position(connection)
            while low < high:
                middle = (low + high) // 2
                found = connection.execute(
                    select(predictions.c.position, predictions.c.at)
                    .where(predictions.c.position > middle)
                    .order_by(predictions.c.position)
                    .limit(1)
                ).one()
                if found.at < wanted:
                    low = found.position
                else:
                    high = middle
        return low

    def since(self, champion: Champion, after: int, most: int) -> Traffic:
        """What the champion answered behind a position, in its time as this release's; `most` rows at most.

        Where more lie there, positions are looked up at even distances, more of them while too few are the champion's.
        """
        with self._engine.begin() as connection:
            to = max(last_position(connection), after)
            span, places = to - after, min(to - after, most)
            ids = self._servings(connection, champion)
            while True:
                rows = self._at(connection, ids, after + np.ceil(np.arange(1, places + 1) * span / max(places, 1)))
                if len(rows) >= most or places >= min(span, max(LOOKED_UP, most)):
                    break
                places = min(2 * places, span, max(LOOKED_UP, most))
        kept = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)) if rows else ()
        chosen = [rows[place] for place in kept]
        return Traffic(after, to, tuple(row for _, row in chosen), places, len(rows))

    def labels(self, champion: Champion) -> list[Judged]:
        """The newest true labels of the release's answers, one an answer: those that came by themselves, and those of
        answers that were drawn at random. A label that was asked for because its image looked odd says nothing of the
        others."""
        asked, drawn = select(label_requests.c.prediction_id), label_requests.c.reason.startswith(AUDIT)
        odd, audited = asked.where(~drawn), labels.c.prediction_id.in_(asked.where(drawn))
        query = (
            select(labels.c.prediction_id, predictions.c.predicted, labels.c.label, audited)
            .join(predictions, predictions.c.id == labels.c.prediction_id)
            .join(servings, servings.c.id == predictions.c.serving_id)
            .where(
                servings.c.release_id == champion.decision_id,
                servings.c.role == Role.CHAMPION.value,
                labels.c.prediction_id.not_in(odd),
            )
            .order_by(labels.c.position.desc())
            .limit(MOST_LABELS)
        )
        with self._engine.begin() as connection:
            found = [Judged(row[0], row[1], row[2], bool(row[3])) for row in connection.execute(query)]
        return list({judged.prediction_id: judged for judged in reversed(found)}.values())

    def close(self) -> None:
        self._engine.dispose()

    def _servings(self, connection: Connection, champion: Champion) -> set[int]:
        query = select(servings.c.id).where(
            servings.c.release_id == champion.decision_id,
            servings.c.model_id == champion.model_id,
            servings.c.role == Role.CHAMPION.value,
        )
        return set(connection.execute(query).scalars())

    @staticmethod
    def _at(connection: Connection, ids: set[int], places: NDArray[np.float64]) -> list[tuple[int, PredictionRow]]:
        """The rows of these servings that stand at these positions."""
        found: list[tuple[int, PredictionRow]] = []
        wanted = [int(place) for place in places]
        query = select(predictions.c.position, *(predictions.c[name] for name in PredictionRow._fields))
        for first in range(0, len(wanted), SEEKS):
            some = wanted[first : first + SEEKS]
            here = predictions.c.position.in_(some)
            if some[-1] - some[0] == len(some) - 1:  # without a gap: one walk
                here = predictions.c.position.between(some[0], some[-1])
            rows = connection.execute(query.where(here).order_by(predictions.c.position))
            found += [(row[0], PredictionRow(*row[1:])) for row in rows if row.serving_id in ids]
        return found
