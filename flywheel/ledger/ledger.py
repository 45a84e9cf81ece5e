"""The ledger: what was decided, on what evidence, and who is champion."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine

from flywheel.identity import code_version
from flywheel.ledger.by_hand import forced, rolled_back
from flywheel.ledger.chain import last_link, ledger_id
from flywheel.ledger.database import database_url, migrate, open_engine, shown, snapshot, sqlite_file, writing
from flywheel.ledger.entries import Champion, Decision, EvaluationSetUse, Json, Kind, LedgerError, decision_id, utc_now
from flywheel.ledger.heads import HeadFile, demand_head
from flywheel.ledger.promotion import Expected, check_gate, decide, released, standing
from flywheel.ledger.reading import LedgerReader, gate_of
from flywheel.ledger.rows import (
    append_champion,
    append_decision,
    append_use,
    current_champion,
    find_decision,
    last_look,
)
from flywheel.ledger.schema import LATEST
from flywheel.ledger.verification import ChainReport, verify_chain
from flywheel.records import GateVerdict, Release, Verdict, as_dict
from flywheel.settings import Settings

__all__ = ["Clock", "Ledger", "gate_of", "migrate_ledger", "open_ledger"]

Clock = Callable[[], datetime]

# The code that decides, down to what a policy and a verdict are: its hash stands in every decision. It is no part of a
# decision's id, so a file too many here costs nothing. What was measured, and by whatever code, stands in the evidence.
DECIDING = ("evaluation", "monitoring", "ledger", "policies.py", "records.py", "identity.py")


def open_ledger(
    where: Settings | str, *, create: bool = True, head: Path | None = None, serving: bool = False
) -> "Ledger":
    """The ledger of these settings, or at a URL. A SQLite one is made, or migrated, on first use.

    `serving` reads one of a later schema, too.

    `head` is the file that keeps the chain's last link: by default the settings' own, or one beside a SQLite file.
    Raises LedgerError where the ledger does not exist and `create` is false, where a Postgres awaits 'make migrate',
    and where the URL is of neither.
    """
    url = database_url(where.ledger_url if isinstance(where, Settings) else where)
    heads = _head_file(where, head)
    engine, migrated = open_engine(url, create=create, serving=serving)
    ledger = Ledger(engine, heads)
    if migrated:
        ledger.note_head()
    return ledger


def migrate_ledger(settings: Settings) -> tuple[str, str | None, str]:
    """Bring the ledger to the latest schema; returns where it is, without a password, and the schema that it had and
    has."""
    url = database_url(settings.ledger_url)
    before = migrate(url)
    open_ledger(settings).note_head()
    return shown(url), before, LATEST


def _head_file(where: Settings | str, head: Path | None) -> HeadFile:
    if head is not None:
        return HeadFile(head)
    if isinstance(where, Settings):
        return HeadFile(where.paths.ledger_head)
    file = sqlite_file(database_url(where))
    if file is None:
        raise LedgerError("A Postgres ledger keeps its head in a file outside the database: name it by head=….")
    return HeadFile(file.with_name(f"{file.stem}-head.json"))


class Ledger(LedgerReader):
    """Reads and appends. Safe to share between threads; every process opens its own."""

    def __init__(self, engine: Engine, heads: HeadFile) -> None:
        super().__init__(engine)
        self._heads = heads

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
        with self._appending() as connection:
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
        artifacts: Json | None = None,
        approval: Json | None = None,
    ) -> Release:
        """Make a model its task's champion, in one transaction with the decision that says so.

        The champion must still be the one that the gate compared with, or `expected_champion` where that is given
        (None: the task has none). A gate that did not pass, or a champion that moved meanwhile, is a recorded
        refusal: `promoted` is false, the champion stays, and the reason says why. A model that is champion already
        with this Bento is left as it is. `artifacts` are hashes of what is promoted, kept as evidence; `approval` is
        what a person said: approved, who, reason. A no, or an answer without name or reason, is a refusal. Raises
        LedgerError where the gate decision is unknown or not of this model.
        """
        with self._appending() as connection:
            gate = find_decision(connection, gate_decision_id)
            if gate is None:
                raise LedgerError(f"{gate_decision_id}: no such gate decision. 'flywheel decisions' lists them all.")
            check_gate(gate, task_id, model_id)
            current = current_champion(connection, task_id)
            if current and (current.model_id, current.bento_tag) == (model_id, bento_tag):
                return standing(current)
            at = clock()
            entry = decide(
                gate,
                current,
                bento_tag,
                expected_champion,
                reason,
                artifacts or {},
                approval=approval,
                at=at,
                code=deciding_code(),
            )
            recorded = append_decision(connection, entry)
            if recorded.verdict is Verdict.PASS:
                append_champion(connection, recorded, at)
        return released(recorded, current)

    def force(
        self, gate: Decision, bento_tag: str, *, reason: str, who: str, artifacts: Json, clock: Clock = utc_now
    ) -> Release:
        """Make the model of a gate decision champion whatever the gate said: a person's decision, by name and reason.

        A model that is champion already with this Bento is left as it is. Raises LedgerError without a reason or name.
        """
        if not reason.strip() or not who.strip():
            raise LedgerError("A forced promotion needs a reason and a name: both stay on record.")
        check_gate(gate, gate.task_id, gate.inputs["model_id"])
        with self._appending() as connection:
            current = current_champion(connection, gate.task_id)
            if current and (current.model_id, current.bento_tag) == (gate.inputs["model_id"], bento_tag):
                return standing(current)
            at, code = clock(), deciding_code()
            entry = forced(gate, bento_tag, current, artifacts, reason=reason.strip(), who=who, at=at, code=code)
            append_champion(connection, append_decision(connection, entry), at)
        return released(entry, current)

    def rollback(
        self, current: Champion, target: Champion, *, reason: str, who: str, artifacts: Json, clock: Clock = utc_now
    ) -> Release:
        """Make the champion before the current one champion again. Raises LedgerError where it moved meanwhile."""
        made_by = self.decision(target.decision_id)
        previous = self.previous_champion(current.task_id)
        with self._appending() as connection:
            found = current_champion(connection, current.task_id)
            # who was before a champion never changes, so what was read outside the lock holds if the champion does
            if found != current or previous != target:
                raise LedgerError(f"The champion of {current.task_id} moved meanwhile. Look at it, and decide again.")
            at, code = clock(), deciding_code()
            entry = rolled_back(target, made_by, current, artifacts, reason=reason, who=who, at=at, code=code)
            append_champion(connection, append_decision(connection, entry), at)
        return released(entry, current)

    def release_again(
        self,
        current: Champion,
        *,
        reason: str,
        who: str,
        artifacts: Json,
        retraining: Json | None = None,
        clock: Clock = utc_now,
    ) -> Release:
        """The same champion, as a release of its own: looks, labels and cooldowns begin anew. Raises LedgerError where
        it moved meanwhile. `retraining` holds parameters that retrainings of this release go by."""
        made_by = self.decision(current.decision_id)
        with self._appending() as connection:
            if current_champion(connection, current.task_id) != current:
                raise LedgerError(f"The champion of {current.task_id} moved meanwhile. Look at it, and decide again.")
            at, code = clock(), deciding_code()
            entry = rolled_back(current, made_by, current, artifacts, reason=reason, who=who, at=at, code=code)
            if retraining:
                entry = replace(entry, evidence={**entry.evidence, "retraining": retraining})
            append_champion(connection, append_decision(connection, entry), at)
        return released(entry, current)

    def record(
        self,
        kind: Kind,
        task_id: str,
        *,
        inputs: Json,
        policy: Json,
        evidence: Json,
        verdict: Verdict,
        reason: str,
        clock: Clock = utc_now,
    ) -> Decision:
        """Append a decision that moves nothing: drift, retrain, canary. The recorded one where it was decided before.

        Raises LedgerError for a kind that comes with a use or a champion, which its own method appends.
        """
        if kind not in {Kind.DRIFT, Kind.RETRAIN, Kind.CANARY}:
            raise LedgerError(f"A {kind} decision is recorded with what it brings about, by its own method.")
        entry = _moving_nothing(kind, task_id, inputs, policy, evidence, verdict, reason, clock())
        with self._appending() as connection:
            return append_decision(connection, entry)

    def record_look(
        self,
        task_id: str,
        previous: str,
        *,
        inputs: Json,
        policy: Json,
        evidence: Json,
        verdict: Verdict,
        reason: str,
        clock: Clock = utc_now,
    ) -> Decision | None:
        """Append a decision on drift that follows the decision `previous`, empty for the first one of a release.

        None where another look followed it meanwhile: of two monitors at once, one looks. `inputs` name the release.
        """
        inputs = {**inputs, "previous": previous}
        entry = _moving_nothing(Kind.DRIFT, task_id, inputs, policy, evidence, verdict, reason, clock())
        with self._appending() as connection:
            last = last_look(connection, task_id, inputs["release_id"])
            if (last.id if last else "") != previous:
                return None
            return append_decision(connection, entry)

    def verify(self) -> ChainReport:
        """Compare every row with the hash chain, and the chain's end with the head that is kept outside."""
        heads = self._heads.read()  # before the rows: what the head names is committed by then
        with snapshot(self._engine) as connection:
            return verify_chain(connection, heads, self._heads.path)

    def note_head(self) -> None:
        """Write the chain's last link into the head's file, where that is behind."""
        with self._engine.begin() as connection:
            identity, link = ledger_id(connection), last_link(connection)
        self._heads.advance(identity, link)

    @contextmanager
    def _appending(self) -> Iterator[Connection]:
        """A writer's transaction; the head's file follows it. Raises LedgerError where the ledger has lost rows."""
        with writing(self._engine) as connection:
            identity = ledger_id(connection)
            demand_head(connection, self._heads.read().get(identity), self._heads.path)
            yield connection
            link = last_link(connection)
        self._heads.advance(identity, link)


def _moving_nothing(
    kind: Kind, task_id: str, inputs: Json, policy: Json, evidence: Json, verdict: Verdict, reason: str, at: datetime
) -> Decision:
    identity = decision_id(kind, inputs, policy)
    return Decision(identity, kind, task_id, inputs, policy, evidence, verdict, reason, at, deciding_code())


@cache
def deciding_code() -> str:
    """The hash of the code that judges and records."""
    return code_version(Path(__file__).resolve().parent.parent, DECIDING)
