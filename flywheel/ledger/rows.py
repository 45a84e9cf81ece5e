"""Between the ledger's rows and its records, inside a transaction that the caller opened."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from flywheel.ledger.chain import append
from flywheel.ledger.entries import Champion, Decision, EvaluationSetUse, Kind
from flywheel.ledger.tables import champions, decisions, evaluation_set_uses
from flywheel.records import Verdict


def decision_of(row: Row[Any]) -> Decision:
    fields = {name: value for name, value in row._mapping.items() if name != "position"}
    return Decision(**{**fields, "kind": Kind(row.kind), "verdict": Verdict(row.verdict)})


def champion_of(row: Row[Any]) -> Champion:
    return Champion(**row._mapping)


def use_of(row: Row[Any]) -> EvaluationSetUse:
    return EvaluationSetUse(**{name: value for name, value in row._mapping.items() if name != "position"})


def find_decision(connection: Connection, identity: str) -> Decision | None:
    row = connection.execute(select(decisions).where(decisions.c.id == identity)).one_or_none()
    return decision_of(row) if row else None


def last_look(connection: Connection, task_id: str, release_id: str) -> Decision | None:
    """The last decision on drift of a task, if it is of this release."""
    table = decisions.c
    query = select(decisions).where(table.kind == Kind.DRIFT.value, table.task_id == task_id)
    row = connection.execute(query.order_by(table.position.desc()).limit(1)).one_or_none()
    return decision_of(row) if row and row.inputs.get("release_id") == release_id else None


def append_decision(connection: Connection, entry: Decision) -> Decision:
    """Append it, or return the decision that already stands under its id: what is decided is decided."""
    recorded = find_decision(connection, entry.id)
    if recorded is None:
        append(connection, decisions, asdict(entry))
    return recorded or entry


def append_use(connection: Connection, use: EvaluationSetUse) -> None:
    """Append it, unless the same challenger was judged against the same champion on this set before."""
    table = evaluation_set_uses.c
    same = select(evaluation_set_uses).where(
        table.evaluation_set_id == use.evaluation_set_id,
        table.model_id == use.model_id,
        table.champion_id == use.champion_id,
    )
    if connection.execute(same).one_or_none() is None:
        append(connection, evaluation_set_uses, asdict(use))


def current_champion(connection: Connection, task_id: str | None) -> Champion | None:
    """The last row, of the task or of all."""
    query = select(champions).order_by(champions.c.position.desc()).limit(1)
    if task_id is not None:
        query = query.where(champions.c.task_id == task_id)
    row = connection.execute(query).one_or_none()
    return champion_of(row) if row else None


def append_champion(connection: Connection, decision: Decision, since: datetime) -> None:
    """Whom a promotion, a force or a rollback made champion."""
    values = {
        "task_id": decision.task_id,
        "model_id": decision.inputs["model_id"],
        "decision_id": decision.id,
        "bento_tag": decision.inputs["bento_tag"],
        "since": since,
    }
    append(connection, champions, values)
