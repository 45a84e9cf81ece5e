"""What the ledger holds, as frozen records."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from flywheel.identity import name_of
from flywheel.records import Verdict

Json = dict[str, Any]


class LedgerError(RuntimeError):
    """Something that the ledger does not hold, or will not do."""


class Kind(StrEnum):
    """What was decided."""

    GATE = "gate"
    PROMOTION = "promotion"  # on a gate
    FORCE = "force"  # a person's, although the gate did not pass
    ROLLBACK = "rollback"
    DRIFT = "drift"
    RETRAIN = "retrain"
    CANARY = "canary"  # on live traffic, before a promotion


@dataclass(frozen=True)
class Decision:
    """One decision with all that it rests on. It is never changed and never removed."""

    id: str  # dec-…: the hash of kind, inputs and policy
    kind: Kind
    task_id: str
    inputs: Json  # identities only
    policy: Json
    evidence: Json  # what was measured
    verdict: Verdict
    reason: str
    created_at: datetime  # UTC
    code_version: str


@dataclass(frozen=True)
class EvaluationSetUse:
    """One question that an evaluation set has answered: this challenger against this champion."""

    evaluation_set_id: str
    model_id: str
    champion_id: str  # empty: the task had none
    decision_id: str  # the first decision that asked it
    at: datetime  # UTC


@dataclass(frozen=True)
class JudgedUse:
    """A use of an evaluation set with the decision that spent it: its inputs, its verdict, its evidence."""

    use: EvaluationSetUse
    decision: Decision


@dataclass(frozen=True)
class Champion:
    """A model in its time as a task's champion. The task's last row is its champion now."""

    position: int  # in the order of promotions, over all tasks
    task_id: str
    model_id: str
    decision_id: str  # the promotion, force or rollback that made it champion
    bento_tag: str
    since: datetime  # UTC


def decision_id(kind: Kind, inputs: Json, policy: Json) -> str:
    """A decision's name: the same question under the same policy is the same decision."""
    return name_of("dec", {"kind": kind.value, "inputs": inputs, "policy": policy})


def utc_now() -> datetime:
    return datetime.now(UTC)
