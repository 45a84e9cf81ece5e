"""The prediction log: every answer of a served model, the true labels that came in, and the labels that are asked for.

It lies in the ledger's database under a writer's lock of its own, so that rows become visible in the order of their
positions: who has read up to a position has missed none before it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Insert, Select, Table, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from flywheel.ledger.database import PREDICTIONS_LOCK, database_url, open_engine, sqlite_file, writing
from flywheel.ledger.entries import LedgerError, utc_now
from flywheel.ledger.lease_tables import tallies
from flywheel.ledger.leases import lease_until
from flywheel.ledger.prediction_tables import label_requests, labels, predictions, servings, trials
from flywheel.settings import Settings


class Role(StrEnum):
    """How a model takes part in answering."""

    CHAMPION = "champion"
    CANARY = "canary"  # answers a share of the requests
    SHADOW = "shadow"  # is asked beside the champion, and its answer goes to the log only
    NONE = "none"  # of a trial: it has ended


@dataclass(frozen=True)
class Serving:
    """One model in one worker process, from the moment that it may answer; or its refusal, where `problem` says why."""

    id: int  # drawn by the worker: it must be known before any database answers
    task_id: str
    model_id: str
    bento_tag: str
    release_id: str  # the decision that made it champion or put it on trial; empty: the Bento's own model
    role: Role
    worker: str  # host and process
    since: datetime  # UTC
    problem: str = ""  # why it may not answer; the worker goes on with the model before it


class PredictionRow(NamedTuple):
    """One answer, as the table has it beside its position."""

    id: str  # UUIDv7
    at: int  # microseconds since 1970, UTC
    serving_id: int
    predicted: int  # the likeliest class, as its place in the class list
    probabilities: bytes  # float32[C]
    embedding: bytes  # float16[K], by the model's own projection
    statistics: bytes  # float32[7]: flywheel.data.measurements.STATISTICS
    image_id: str
    format: str  # JPEG, PNG …; "pixels" for an array
    width: int  # pixels
    height: int
    bytes: int
    client: str  # the key's id; empty where none was asked for
    kept: bool  # whether the image's bytes were kept


@dataclass(frozen=True)
class Logged:
    """A recorded prediction with its position and who gave it."""

    position: int
    row: PredictionRow
    serving: Serving


@dataclass(frozen=True)
class Label:
    """What somebody says is on the image of a prediction. The last one of a prediction counts."""

    position: int
    prediction_id: str
    label: str
    source: str  # a person or a system
    client: str
    at: datetime  # UTC


@dataclass(frozen=True)
class LabelRequest:
    """A prediction whose label is asked for, and that has none yet."""

    prediction_id: str
    reason: str
    at: datetime  # UTC
    image_id: str
    predicted: int
    kept: bool


@dataclass(frozen=True)
class Trial:
    """A model beside the champion. A task's last row says which there is now."""

    position: int
    task_id: str
    model_id: str
    bento_tag: str
    role: Role
    share: float  # of the requests that a canary answers; of the images that a shadow looks at
    reason: str
    who: str
    at: datetime  # UTC
    lease: str = ""  # while it is renewed the trial goes on; empty: until somebody ends it
    until: datetime | None = field(default=None, compare=False)  # when the lease runs out


@dataclass(frozen=True)
class Tally:
    """What one worker counted of a model that it serves, since it began to."""

    serving_id: int
    answers: int
    failures: int  # requests that it could not answer; the champion did, where it was on trial
    seconds: tuple[int, ...]  # answers by how long their batch took: the last bucket of BATCH_SECONDS is open
    at: datetime  # UTC

    def slower_than(self, seconds: float) -> int:
        """Answers in the buckets above a bound."""
        return sum(count for count, edge in zip(self.seconds, (0.0, *BATCH_SECONDS), strict=True) if edge >= seconds)


SEEKS = 500  # rows that one statement names
BATCH_SECONDS = tuple(0.0005 * 1.25**step for step in range(40))  # edges of the buckets: half a millisecond to 3 s


def open_predictions(where: Settings | str, *, hasty: bool = False) -> "PredictionLog":
    """The log of these settings, or at a URL; `hasty` for the service that fills it. Raises LedgerError where the
    database can't be used."""
    url = database_url(where.ledger_url if isinstance(where, Settings) else where)
    engine, _ = open_engine(url, create=True, hasty=hasty, serving=hasty)
    return PredictionLog(engine, sqlite_file(url))


class PredictionLog:
    """Reads and appends. Safe to share between threads; every process opens its own."""

    def __init__(self, engine: Engine, file: Path | None) -> None:
        self._engine = engine
        self._file = file
        self._identity = _identity(file)

    def append(self, entered: Sequence[Serving], rows: Sequence[PredictionRow]) -> None:
        """Add rows and the servings that they name, in one transaction. What stands already is left as it is, so rows
        whose fate is unknown may be given again."""
        self._demand_file()
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            if entered:
                connection.execute(self._insert(servings), [_plain(each) for each in entered])
            if rows:
                # past SQLAlchemy's own handling of rows, which costs as much as SQLite's
                statement, named = self._prediction_insert
                connection.exec_driver_sql(statement, [row._asdict() for row in rows] if named else list(rows))

    def remove(self, rows: Sequence[PredictionRow]) -> None:
        """Forget rows that now stand elsewhere: for what a service had to keep on its own disk for a while."""
        identities = [row.id for row in rows]
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            connection.execute(delete(predictions).where(predictions.c.id.in_(identities)))

    def find(self, prediction_id: str) -> Logged | None:
        with self._engine.begin() as connection:
            found = connection.execute(self._logged().where(predictions.c.id == prediction_id)).one_or_none()
        return _logged(found) if found else None

    def last_position(self) -> int:
        with self._engine.begin() as connection:
            return last_position(connection)

    def last_label(self) -> int:
        """The position of the newest label; 0 where there is none."""
        with self._engine.begin() as connection:
            return int(connection.execute(select(func.max(labels.c.position))).scalar_one_or_none() or 0)

    def after(self, position: int, limit: int, model_id: str | None = None) -> list[Logged]:
        """At most `limit` rows behind a position, in order; of one model where it is named."""
        query = self._logged().where(predictions.c.position > position).order_by(predictions.c.position).limit(limit)
        if model_id is not None:
            query = query.where(servings.c.model_id == model_id)
        with self._engine.begin() as connection:
            return [_logged(row) for row in connection.execute(query)]

    def count_by_model(self, image_id: str | None = None) -> dict[str, int]:
        """How often each model answered, or answered for one image: that reads the whole table."""
        answered = predictions.join(servings, predictions.c.serving_id == servings.c.id)
        query = select(servings.c.model_id, func.count()).select_from(answered)
        if image_id is not None:
            query = query.where(predictions.c.image_id == image_id)
        with self._engine.begin() as connection:
            return dict(connection.execute(query.group_by(servings.c.model_id)).tuples().all())

    def servings(self, task_id: str | None = None, limit: int = 100) -> list[Serving]:
        """Who began to answer, or was refused, the newest first."""
        query = select(servings).order_by(servings.c.since.desc()).limit(limit)
        if task_id is not None:
            query = query.where(servings.c.task_id == task_id)
        with self._engine.begin() as connection:
            return [_serving(row._mapping) for row in connection.execute(query)]

    def add_label(
        self, prediction_id: str, label: str, *, source: str, client: str, at: datetime | None = None
    ) -> Label:
        """Append a true label. The caller has looked at the prediction and its classes."""
        values = {"prediction_id": prediction_id, "label": label, "source": source, "client": client}
        moment = at or utc_now()
        self._demand_file()
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            (position,) = connection.execute(insert(labels).values(**values, at=moment)).inserted_primary_key or (0,)
        return Label(int(position), **values, at=moment)

    def add_labels(self, rows: Sequence[tuple[str, str, str]], *, client: str, at: datetime | None = None) -> int:
        """Append many: prediction's id, label, source. What a source said last of a prediction is not recorded again,
        so the same rows may be given twice. Returns how many were new."""
        moment, new = at or utc_now(), 0
        self._demand_file()
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            for first in range(0, len(rows), SEEKS):
                some = rows[first : first + SEEKS]
                said = self._said(connection, {row[0] for row in some}, client)
                wanted = {(row[0], row[2]): row[1] for row in some}
                values = [
                    {"prediction_id": identity, "label": label, "source": source, "client": client, "at": moment}
                    for (identity, source), label in wanted.items()
                    if said.get((identity, source)) != label
                ]
                new += len(values)
                if values:
                    connection.execute(insert(labels), values)
        return new

    @staticmethod
    def _said(connection: Connection, prediction_ids: Iterable[str], client: str) -> dict[tuple[str, str], str]:
        """What each source said last, by prediction and source."""
        query = select(labels.c.prediction_id, labels.c.source, labels.c.label)
        query = query.where(labels.c.prediction_id.in_(sorted(prediction_ids)), labels.c.client == client)
        return {(row[0], row[1]): row[2] for row in connection.execute(query.order_by(labels.c.position))}

    def labels(self, after: int = 0, limit: int = 100_000) -> list[Label]:
        query = select(labels).where(labels.c.position > after).order_by(labels.c.position).limit(limit)
        with self._engine.begin() as connection:
            return [Label(**row._mapping) for row in connection.execute(query)]

    def labels_of(self, prediction_id: str) -> list[Label]:
        query = select(labels).where(labels.c.prediction_id == prediction_id).order_by(labels.c.position)
        with self._engine.begin() as connection:
            return [Label(**row._mapping) for row in connection.execute(query)]

    def ask(self, prediction_ids: Iterable[str], reason: str, at: datetime | None = None) -> None:
        """Ask for the labels of these predictions; one that is asked for already stays as it is."""
        moment = at or utc_now()
        rows = [{"prediction_id": identity, "reason": reason, "at": moment} for identity in prediction_ids]
        if rows:
            self._demand_file()
            with writing(self._engine, PREDICTIONS_LOCK) as connection:
                connection.execute(self._insert(label_requests), rows)

    def asked(self, task_id: str, limit: int = 100) -> list[LabelRequest]:
        """The open requests of the release that answers, the oldest first: no other's label would count any more."""
        query = self._open_requests(
            label_requests.c.prediction_id,
            label_requests.c.reason,
            label_requests.c.at,
            predictions.c.image_id,
            predictions.c.predicted,
            predictions.c.kept,
        )
        with self._engine.begin() as connection:
            rows = connection.execute(self._answering(query, task_id).order_by(label_requests.c.position).limit(limit))
            return [LabelRequest(**row._mapping) for row in rows]

    def count_asked(self, task_id: str) -> int:
        with self._engine.begin() as connection:
            return int(connection.execute(self._answering(self._open_requests(func.count()), task_id)).scalar_one())

    def images_to_keep(self) -> set[str]:
        """The image ids of all open requests."""
        with self._engine.begin() as connection:
            return set(connection.execute(self._open_requests(predictions.c.image_id)).scalars())

    def trial(self, task_id: str, now: datetime | None = None) -> Trial | None:
        """The model on trial beside the task's champion now; None where there is none, or its lease has run out."""
        query = select(trials).where(trials.c.task_id == task_id).order_by(trials.c.position.desc()).limit(1)
        with self._engine.begin() as connection:
            row = connection.execute(query).one_or_none()
            if row is None or row.role == Role.NONE.value:
                return None
            until = lease_until(connection, row.lease) if row.lease else None
        trial = Trial(**{**row._mapping, "role": Role(row.role)}, until=until)
        return None if trial.lease and (until is None or until <= (now or utc_now())) else trial

    def begin_trial(
        self,
        task_id: str,
        model_id: str,
        bento_tag: str,
        role: Role,
        share: float,
        *,
        reason: str,
        who: str,
        lease: str = "",
    ) -> None:
        """Put a model on trial, in place of the one before; `Role.NONE` ends the trial. One with a lease ends by itself
        when that runs out."""
        if not 0 <= share <= 1:
            raise LedgerError(f"share {share}: a number from 0 to 1 was expected, the share of the requests.")
        values = {"task_id": task_id, "model_id": model_id, "bento_tag": bento_tag, "role": role.value, "share": share}
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            connection.execute(insert(trials).values(**values, reason=reason, who=who, at=utc_now(), lease=lease))

    def end_trial(self, trial: Trial, *, reason: str, who: str) -> bool:
        """End this very trial; False where another has taken its place, or it has ended."""
        now = self.trial(trial.task_id)
        if now is not None and now != trial:
            return False
        ended = (trial.task_id, trial.model_id, trial.bento_tag, Role.NONE, 0.0)
        self.begin_trial(*ended, reason=reason, who=who)
        return True

    def note(self, counted: Iterable[Tally]) -> None:
        """What a worker has counted so far, in place of what it noted before."""
        rows = [asdict(each) for each in counted]
        if not rows:
            return
        self._demand_file()
        with writing(self._engine, PREDICTIONS_LOCK) as connection:
            connection.execute(delete(tallies).where(tallies.c.serving_id.in_([each["serving_id"] for each in rows])))
            connection.execute(insert(tallies), rows)

    def tallies(self, release_id: str, since: datetime | None = None) -> dict[Serving, Tally]:
        """What each worker counted of the model that a release, or a trial, put there; those that began, or noted
        something, since a moment."""
        columns = (column.label(f"of_{column.name}") for column in servings.c)
        query = select(tallies, *columns).join(servings, servings.c.id == tallies.c.serving_id)
        query = query.where(servings.c.release_id == release_id)
        if since is not None:
            query = query.where(tallies.c.at >= since)
        found: dict[Serving, Tally] = {}
        with self._engine.begin() as connection:
            for row in connection.execute(query):
                values = dict(row._mapping)
                serving = {name: values.pop(f"of_{name}") for name in servings.c.keys()}  # noqa: SIM118
                found[_serving(serving)] = Tally(**{**values, "seconds": tuple(values["seconds"])})
        return found

    def close(self) -> None:
        self._engine.dispose()

    def _demand_file(self) -> None:
        """Raises LedgerError where the file behind the open connections is not the one of this name any more: rows
        would go where nobody finds them."""
        if self._file is not None and _identity(self._file) != self._identity:
            raise LedgerError(f"{self._file}: the database's file was moved or replaced.")

    @cached_property
    def _prediction_insert(self) -> tuple[str, bool]:
        """The driver's own statement, and whether it names its parameters."""
        compiled = self._insert(predictions, PredictionRow._fields).compile(dialect=self._engine.dialect)
        return str(compiled), not compiled.positional

    def _insert(self, table: Table, columns: Sequence[str] | None = None) -> Insert:
        kind = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement = kind(table).on_conflict_do_nothing()
        return statement if columns is None else statement.values(dict.fromkeys(columns))

    @staticmethod
    def _logged() -> Select[Any]:
        columns = (column.label(f"serving_{column.name}") for column in servings.c if column.name != "id")
        return select(predictions, *columns).join(servings, predictions.c.serving_id == servings.c.id)

    @staticmethod
    def _open_requests(*columns: Any) -> Select[Any]:
        labelled = select(labels.c.prediction_id).where(labels.c.prediction_id == label_requests.c.prediction_id)
        joined = label_requests.join(predictions, predictions.c.id == label_requests.c.prediction_id)
        joined = joined.join(servings, servings.c.id == predictions.c.serving_id)
        return select(*columns).select_from(joined).where(~labelled.exists())

    @staticmethod
    def _answering(query: Select[Any], task_id: str) -> Select[Any]:
        """Of the task's last release that any worker has served."""
        ours = servings.alias()
        champion = (ours.c.task_id == task_id) & (ours.c.role == Role.CHAMPION.value) & (ours.c.problem == "")
        last = select(ours.c.release_id).where(champion).order_by(ours.c.since.desc(), ours.c.id.desc()).limit(1)
        return query.where(servings.c.task_id == task_id, servings.c.release_id == last.scalar_subquery())


def last_position(connection: Connection) -> int:
    """0 where there is no row yet."""
    return int(connection.execute(select(func.max(predictions.c.position))).scalar_one_or_none() or 0)


def _identity(file: Path | None) -> tuple[int, int] | None:
    if file is None or not file.exists():
        return None
    found = file.stat()
    return found.st_dev, found.st_ino


def _plain(serving: Serving) -> dict[str, Any]:
    return {**asdict(serving), "role": serving.role.value}


def _serving(values: Any) -> Serving:
    return Serving(**{**values, "role": Role(values["role"])})


def _logged(row: Any) -> Logged:
    values = dict(row._mapping)
    head = "serving_"
    serving = {name.removeprefix(head): values.pop(name) for name in list(values) if name.startswith(head)}
    position, serving_id = values.pop("position"), serving.pop("id")
    found = PredictionRow(**values, serving_id=serving_id)
    return Logged(position, found, _serving({**serving, "id": serving_id}))
