"""What can be asked of the ledger."""

from typing import Any

from sqlalchemy import Engine, Row, Select, select

from flywheel.identity import canonical_json
from flywheel.ledger.by_hand import anchor_of, previous_champion
from flywheel.ledger.chain import decision_fits
from flywheel.ledger.database import snapshot
from flywheel.ledger.entries import Champion, Decision, EvaluationSetUse, JudgedUse, Kind, LedgerError
from flywheel.ledger.rows import champion_of, current_champion, decision_of, last_look, use_of
from flywheel.ledger.tables import champions, decisions, evaluation_set_uses
from flywheel.records import GateVerdict, from_json


class LedgerReader:
    """Every question is a transaction of its own. Safe to share between threads; every process opens its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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

    def previous_champion(self, task_id: str) -> Champion | None:
        """Whom a rollback would bring back: the champion before the current one, further back after each rollback."""
        history = self.history(task_id)[::-1]
        return previous_champion(history, self._by_id(each.decision_id for each in history))

    def anchor(self, task_id: str) -> str | None:
        """The model that non-inferiority is measured from: the last one that was promoted as superior, else the first.

        A forced promotion makes the forced model the anchor too, as a person decided to go on from there. After a
        rollback the anchor is what it was when that champion was promoted. None where the task never had a champion.
        """
        history = self.history(task_id)[::-1]
        found = self._by_id(each.decision_id for each in history)
        gates = self._by_id(each.inputs["gate_decision_id"] for each in found.values())
        return anchor_of(history, {**found, **gates})

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
        """The gate decision on which a champion was promoted, or past which it was forced."""
        return self.decision(self.decision(champion.decision_id).inputs["gate_decision_id"])

    def last_look(self, champion: Champion) -> Decision | None:
        """The last decision on drift in a champion's time; None before the first."""
        with self._engine.begin() as connection:
            return last_look(connection, champion.task_id, champion.decision_id)

    def looks(self, champion: Champion, limit: int) -> list[Decision]:
        """The last decisions on drift in a champion's time, the newest first."""
        found = self.decisions(kind=Kind.DRIFT, task_id=champion.task_id, limit=limit)
        return [each for each in found if each.inputs["release_id"] == champion.decision_id]

    def evaluation_set_uses(self, evaluation_set_id: str) -> list[EvaluationSetUse]:
        """What the evaluation set was asked so far, the oldest first."""
        uses = evaluation_set_uses
        query = select(uses).where(uses.c.evaluation_set_id == evaluation_set_id).order_by(uses.c.position)
        return [use_of(row) for row in self._rows(query)]

    def evaluation_set_uses_of_task(self, task_id: str) -> list[JudgedUse]:
        """What all evaluation sets of a task were asked so far, each with the decision that asked first, the oldest
        first. A judgement of the same pair on the same set under another policy is no further use."""
        uses = evaluation_set_uses
        asked = select(uses).join(decisions, uses.c.decision_id == decisions.c.id)
        found = [
            use_of(row) for row in self._rows(asked.where(decisions.c.task_id == task_id).order_by(uses.c.position))
        ]
        by_id = self._by_id(use.decision_id for use in found)
        return [JudgedUse(use, by_id[use.decision_id]) for use in found]

    def is_chained(self, decision_id: str) -> bool:
        """Whether a decision, and the use or champion that came with it, are as the hash chain has them. A row that
        came with it and was removed is told by `verify` only."""
        with snapshot(self._engine) as connection:
            return decision_fits(connection, decision_id)

    def _by_id(self, identities: Any) -> dict[str, Decision]:
        query = select(decisions).where(decisions.c.id.in_(set(identities)))
        return {row.id: decision_of(row) for row in self._rows(query)}

    def _rows(self, query: Select[Any]) -> list[Row[Any]]:
        with self._engine.begin() as connection:
            return list(connection.execute(query))


def gate_of(decision: Decision) -> GateVerdict:
    """The verdict that a gate decision recorded. Raises LedgerError for a decision of another kind."""
    if decision.kind is not Kind.GATE:
        raise LedgerError(f"{decision.id} is a {decision.kind} decision, a gate's was expected.")
    return from_json(GateVerdict, canonical_json(decision.evidence["gate"]))
