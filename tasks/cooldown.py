"""What became of a retraining, in words that people read, and for how long none begins after it."""

from datetime import datetime, timedelta
from enum import StrEnum

from flywheel.ledger import Decision
from flywheel.records import Verdict


class Outcome(StrEnum):
    """How a retraining ended, or why it did not begin."""

    TAKEN = "another run acted on this decision"
    BUSY = "another retraining is under way"
    COOLING = "the last one did not help, and it is too early for another"
    WAITS = "too few labels"
    SAME = "nothing new was labelled since the last one"
    NOT_HELPED = "it did not help enough"
    HELD_BACK = "it passed its gate, and was not released"
    HELPED = "it helped, and was released"


ENDED = {Outcome.NOT_HELPED, Outcome.HELD_BACK, Outcome.HELPED}  # a model was trained
VERDICTS = {Outcome.HELPED: Verdict.PASS, Outcome.NOT_HELPED: Verdict.FAIL, Outcome.HELD_BACK: Verdict.FAIL}


def cooldown_until(decision: Decision) -> datetime | None:
    """After a retraining that trained a model in vain; None after any other."""
    if decision.evidence.get("outcome") not in ENDED - {Outcome.HELPED}:
        return None
    return decision.created_at + timedelta(hours=float(decision.policy["policy"]["cooldown_hours"]))
