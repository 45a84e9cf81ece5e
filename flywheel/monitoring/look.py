"""One look at a release: what was read of its traffic, what was measured, and what follows. It is the evidence of a
decision on drift, and the next look begins where it ended."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from flywheel.identity import canonical_json
from flywheel.monitoring.accuracy_estimate import AccuracyEstimate
from flywheel.monitoring.alarm import AlarmState, AlarmVerdict
from flywheel.monitoring.diagnosis import Action, Cause, Diagnosis
from flywheel.monitoring.drift import Drift
from flywheel.records import Interval, Verdict, from_json


class Outcome(StrEnum):
    """How far a look came."""

    MEASURED = "measured"
    SILENCE = "no traffic"
    WAITS = "waits for more images"
    REFUSED = "the window is not as it should be"
    BLIND = "the model can't be watched"


@dataclass(frozen=True)
class Measured:
    """What a window shows, where it could be measured."""

    images: int  # different ones
    drift: Drift
    alarm: AlarmVerdict
    diagnosis: Diagnosis

    @property
    def estimate(self) -> AccuracyEstimate:
        return self.diagnosis.estimate


@dataclass(frozen=True)
class Look:
    """Positions are those of the prediction log; `to` is where the next look begins."""

    outcome: Outcome
    after: int
    to: int
    answers: int  # the champion's, between the two
    counted: bool  # or else estimated
    first: datetime | None  # UTC, when they were given
    last: datetime | None
    per_hour: float | None
    state: AlarmState
    measured: Measured | None = None
    labelled: Interval | None = None  # accuracy by the labels that came in since the release, 95 %
    labels: int = 0
    failed: tuple[str, ...] = ()  # critical findings of the suite
    warnings: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        return self.measured.diagnosis.action if self.measured else Action.NOTHING

    @property
    def alarm(self) -> bool:
        return self.state.alarmed_at is not None


def look_of(evidence: dict[str, Any]) -> Look | None:
    """The look that a decision on drift rests on, by its evidence; None where another version of this code wrote it."""
    try:
        return from_json(Look, canonical_json(evidence["look"]))
    except ValidationError:
        return None


def verdict_of(look: Look) -> tuple[Verdict, str]:
    """Whether the champion may stay as it is, and why: pass, fail, or nobody can tell."""
    if look.outcome is Outcome.REFUSED:
        return Verdict.NOT_ENOUGH_EVIDENCE, f"Nothing is concluded from this window: {'; '.join(look.failed)}."
    if look.outcome is Outcome.BLIND:
        return Verdict.NOT_ENOUGH_EVIDENCE, " ".join(look.warnings)
    if look.outcome is Outcome.SILENCE:
        return Verdict.NOT_ENOUGH_EVIDENCE, "No prediction since the look before."
    if look.measured is None:
        return Verdict.NOT_ENOUGH_EVIDENCE, f"{look.answers:,} predictions wait until there are enough for a look."
    found = look.measured
    estimate = found.estimate
    accuracy = f"Estimated accuracy {estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]."
    if found.diagnosis.cause is Cause.NOTHING:
        return Verdict.PASS, f"{found.alarm.reason} {accuracy}"
    sentence = f"{found.diagnosis.cause}, so {found.diagnosis.action}. {found.diagnosis.reason}"
    reason = f"{found.alarm.reason} {sentence[0].upper()}{sentence[1:]} {accuracy}"
    if found.diagnosis.cause is Cause.HARMLESS:
        return Verdict.PASS, reason
    if found.diagnosis.action is Action.ASK:
        return Verdict.NOT_ENOUGH_EVIDENCE, reason
    return Verdict.FAIL, reason
