"""The ledger: what was decided, on what evidence, and who is champion."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, Select, select

from flywheel.identity import canonical_json, code_version
from flywheel.ledger.database import open_engine, writing
from flywheel.ledger.entries import Champion, Decision, EvaluationSetUse, Json, Kind, LedgerError, decision_id, utc_now
from flywheel.ledger.promotion import Expected, check_gate, decide, released, standing
from flywheel.ledger.rows import (
    append_champion,
    append_decision,
    append_use,
    champion_of,
    current_champion,
    decision_of,
    find_decision,
    use_of,
)
from flywheel.ledger.tables import champions, decisions, evaluation_set_uses
from flywheel.records import GateVerdict, Release, Verdict, as_dict, from_json
from flywheel.settings import Settings

Clock = Callable[[], datetime]

# The code that decides: its hash stands in every decision.
DECIDING_ROOMS = ("evaluation", "ledger")


def open_ledger(where: Settings | str, *, create: bool = True) -> "Ledger":
    """The ledger of these settings, or at a URL; made on first use.

    Raises LedgerError where it does not exist and `create` is false, or where the URL is no SQLite file.
    """
    url = where.ledger_url if isinstance(where, Settings) else where
    return Ledger(open_engine(url, create=create))


class Ledger:
    """Reads and appends. Safe to share between threads; every process opens its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record_gate(
        self, verdict: GateVerdict, *, inputs: Json, policy: Json, evidence: Json, clock: Clock = utc_now
    ) -> GateVerdict:
        """Append a gate's verdict and its use of the evaluation set; the recorded verdict where it is already there.

        `inputs` and `policy` are what the verdict's id is the hash of. Raises LedgerError when they are not.
        """
        entry = Decision(
            id=decision_id(Kind.GATE, inputs, policy),
            kind=Kind.GATE,
            task_id=verdict.task_id,
            inputs=inputs,
            policy=policy,
            evidence={**evidence, "gate": as_dict(verdict)},
            verdict=verdict.verdict,
            reason=verdict.reason,
            created_at=clock(),
            code_version=deciding_code(),
        )
        if entry.id != verdict.id:
            raise LedgerError(f"{verdict.id}: its inputs and policy make {entry.id}. Judge again.")
        use = EvaluationSetUse(
            evaluation_set_id=verdict.evaluation_set_id,
            model_id=verdict.model_id,
            champion_id=verdict.champion_id or "",
            decision_id=entry.id,
            at=entry.created_at,
        )
        with writing(self._engine) as connection:
            recorded = append_decision(connection, entry)
            append_use(connection, use)
        return gate_of(recorded)

    def promote(
        self,
        task_id: str,
        model_id: str,
        bento_tag: str,
        gate_decision_id: str,
        reason: str,
        clock: Clock = utc_now,
        *,
        expected_champion: str | Expected | None = Expected.AS_JUDGED,
    ) -> Release:
        """Make a model its task's champion, in one transaction with the decision that says so.

        The champion must still be the one that the gate compared with, or `expected_champion` where that is given
        (None: the task has none). A gate that did not pass, or a champion that moved meanwhile, is a recorded
        refusal: `promoted` is false, the champion stays, and the reason says why. A model that is champion already
        with this Bento is left as it is. Raises LedgerError where the gate decision is unknown or not of this model.
        """
        with writing(self._engine) as connection:
            gate = find_decision(connection, gate_decision_id)
            if gate is None:
                raise LedgerError(f"{gate_decision_id}: no such gate decision. 'flywheel decisions' lists them all.")
            check_gate(gate, task_id, model_id)
            current = current_champion(connection, task_id)
            if current and (current.model_id, current.bento_tag) == (model_id, bento_tag):
                return standing(current)
            at = clock()
            entry = decide(gate, current, bento_tag, expected_champion, reason, at=at, code=deciding_code())
            recorded = append_decision(connection, entry)
            if recorded.verdict is Verdict.PASS:
                append_champion(connection, recorded, at)
        return released(recorded, current)

    def champion(self, task_id: str | None = None) -> Champion | None:
        """The task's champion; without a task, that of the task that was promoted last."""
        with self._engine.begin() as connection:
            return current_champion(connection, task_id)

    def history(self, task_id: str | None = None) -> list[Champion]:
        """All champions of a task, or of every task, the newest first."""
        query = select(champions).order_by(champions.c.position.desc())
        if task_id is not None:
            query = query.where(champions.c.task_id == task_id)
        return [champion_of(row) for row in self._rows(query)]

    def decision(self, identity: str) -> Decision:
        """The decision whose id begins so. Raises LedgerError where there is none, or several."""
        query = select(decisions).where(decisions.c.id.startswith(identity, autoescape=True)).limit(2)
        rows = self._rows(query)
        if len(rows) != 1 or not identity:
            found = "several decisions begin so" if rows else "no such decision"
            raise LedgerError(f"“{identity}”: {found}. 'flywheel decisions' lists them all.")
        return decision_of(rows[0])

    def decisions(
        self,
        *,
        kind: Kind | None = None,
        task_id: str | None = None,
        model_id: str | None = None,
        limit: int | None = None,
    ) -> list[Decision]:
        """Decisions of this kind, on this task, about this model, the newest first."""
        query = select(decisions).order_by(decisions.c.position.desc()).limit(limit)
        if kind is not None:
            query = query.where(decisions.c.kind == kind.value)
        if task_id is not None:
            query = query.where(decisions.c.task_id == task_id)
        if model_id is not None:
            query = query.where(decisions.c.inputs["model_id"].as_string() == model_id)
        return [decision_of(row) for row in self._rows(query)]

    def gate_of_champion(self, champion: Champion) -> Decision:
        """The gate decision on which a champion was promoted."""
        return self.decision(self.decision(champion.decision_id).inputs["gate_decision_id"])

    def evaluation_set_uses(self, evaluation_set_id: str) -> list[EvaluationSetUse]:
        """What the evaluation set was asked so far, the oldest first."""
        uses = evaluation_set_uses
        query = select(uses).where(uses.c.evaluation_set_id == evaluation_set_id).order_by(uses.c.position)
        return [use_of(row) for row in self._rows(query)]

    def _rows(self, query: Select[Any]) -> list[Row[Any]]:
        with self._engine.begin() as connection:
            return list(connection.execute(query))


def gate_of(decision: Decision) -> GateVerdict:
    """The verdict that a gate decision recorded. Raises LedgerError for a decision of another kind."""
    if decision.kind is not Kind.GATE:
        raise LedgerError(f"{decision.id} is a {decision.kind} decision, a gate's was expected.")
    return from_json(GateVerdict, canonical_json(decision.evidence["gate"]))


def deciding_code() -> str:
    """The hash of the code that judges and records."""
    return code_version(Path(__file__).resolve().parent.parent, DECIDING_ROOMS)
