"""A model on trial on live traffic: a share of the requests, watched every second, dropped as soon as it does harm.

The trial is a lease that this process renews: where it is killed, the workers give all requests back to the champion
when the lease runs out. Nothing here decides: `flywheel.evaluation.canary` does, from what the workers counted and what
the prediction log holds.
"""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

import numpy as np

from flywheel.evaluation.canary import Arm, CanaryVerdict, judge_canary
from flywheel.ledger import Champion, Decision, Kind, Ledger
from flywheel.ledger.entries import utc_now
from flywheel.ledger.leases import LeaseLost, open_leases
from flywheel.ledger.predictions import BATCH_SECONDS, PredictionLog, Role, Tally, Trial, open_predictions
from flywheel.policies import CanaryPolicy
from flywheel.records import Verdict, as_dict
from flywheel.settings import Settings

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
LOOK_SECONDS = 1.0
ALIVE_SECONDS = 15.0  # a worker notes what it counts at least every 5
ENTRY_SECONDS = 30.0  # in which every worker has loaded a model, or says why not
ROWS_AT_ONCE = 5000
SLOW_QUANTILE = 0.95
WHO = "release-classifier"
NOTHING = Arm(answers=0, failures=0, slow=0, confidence_sum=0.0, confidence_squares=0.0, labelled=0, right=0)


class End(StrEnum):
    """How a trial ended."""

    NONE = "no trial was possible"
    PASSED = "passed"
    FAILED = "failed"


VERDICTS = {End.NONE: Verdict.NOT_ENOUGH_EVIDENCE, End.PASSED: Verdict.PASS, End.FAILED: Verdict.FAIL}


@dataclass(frozen=True)
class Tried:
    """What a trial came to."""

    end: End
    reason: str
    seconds: float = 0.0
    champion: Arm = NOTHING
    challenger: Arm = NOTHING
    verdict: CanaryVerdict | None = None
    decision: str = ""  # dec-…, where it is recorded


@dataclass(frozen=True)
class Candidate:
    """Who is on trial, beside whom, and by which gate."""

    champion: Champion
    model_id: str
    bento_tag: str
    gate_decision: str


def serves(predictions: PredictionLog, champion: Champion, now: datetime) -> bool:
    """Whether a service answers with this champion now."""
    return bool(predictions.tallies(champion.decision_id, now - timedelta(seconds=ALIVE_SECONDS)))


def try_on_traffic(
    candidate: Candidate,
    policy: CanaryPolicy,
    patience: float,
    ledger: Ledger,
    settings: Settings,
    run: str,
    show: Callable[[Arm, Arm], None] = lambda *_: None,
) -> Tried:
    """Let the model answer a share of the requests until it is judged; its trial is ended on every way out.

    `patience` are the seconds without any traffic after which there is nothing to be seen.
    """
    with closing(open_predictions(settings)) as predictions, closing(open_leases(settings)) as leases:
        if not serves(predictions, candidate.champion, utc_now()):
            return Tried(End.NONE, "No service follows the ledger's champion, so there was no traffic to try it on.")
        lease = f"trial-{uuid4().hex}"
        with leases.held(lease, run, LEASE_SECONDS) as held:
            trial = _begin(candidate, policy, predictions, lease)
            watched = _Watched(candidate, trial, policy, patience, predictions, ledger)
            try:
                while (tried := watched.look()) is None:
                    show(watched.champion, watched.challenger)
                    time.sleep(LOOK_SECONDS)
                    held.demand()
            except LeaseLost as lost:
                tried = Tried(End.FAILED, f"The trial's lease was lost: {lost}")
            finally:
                predictions.end_trial(trial, reason="the trial ended", who=WHO)
    return replace(tried, champion=watched.champion, challenger=watched.challenger, seconds=watched.seconds)


def _begin(candidate: Candidate, policy: CanaryPolicy, predictions: PredictionLog, lease: str) -> Trial:
    champion = candidate.champion
    names = (champion.task_id, candidate.model_id, candidate.bento_tag)
    reason = f"on trial before its release, by {candidate.gate_decision}"
    predictions.begin_trial(*names, Role.CANARY, policy.share, reason=reason, who=WHO, lease=lease)
    trial = predictions.trial(champion.task_id)
    if trial is None or trial.lease != lease:
        raise LeaseLost("another trial began in the same moment.")
    return trial


@dataclass
class _Watched:
    """A trial under way, and what was seen of it so far."""

    candidate: Candidate
    trial: Trial
    policy: CanaryPolicy
    patience: float
    predictions: PredictionLog
    ledger: Ledger
    champion: Arm = NOTHING
    challenger: Arm = NOTHING
    began: float = field(default_factory=time.monotonic)
    _confidence: dict[Role, tuple[float, float]] = field(default_factory=dict)  # sums, and sums of squares
    _answered: dict[Role, int] = field(default_factory=dict)  # rows in the log
    _labelled: dict[Role, tuple[int, int]] = field(default_factory=dict)
    _before: dict[int, Tally] = field(default_factory=dict)  # the champion's, when the trial began
    _position: int = 0
    _label: int = 0
    _slow: float = 0.0

    def __post_init__(self) -> None:
        self._position = self.predictions.last_position()
        self._label = self.predictions.last_label()
        self._before = {each.serving_id: each for each in self._tallies(self.candidate.champion.decision_id)}
        self._slow = self.policy.slow_seconds or _quantile(list(self._before.values()))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def release(self) -> str:
        """Under which the workers note the challenger's answers."""
        return f"trial-{self.trial.position}"

    def look(self) -> Tried | None:
        """What the trial came to, if it has ended."""
        if told := self._ended():
            return Tried(End.FAILED, told)
        self._read()
        if not self.challenger.answers + self.challenger.failures:
            return self._nothing_yet()
        verdict = judge_canary(self.champion, self.challenger, self.policy, seconds=self.seconds)
        if verdict.verdict == "go on":
            return None
        end = End.PASSED if verdict.verdict == "promote" else End.FAILED
        return Tried(end, verdict.reason, verdict=verdict)

    def _ended(self) -> str:
        """By somebody else, or because it can't be served; empty while it goes on."""
        task = self.candidate.champion.task_id
        if self.ledger.champion(task) != self.candidate.champion:
            return "Another champion was made meanwhile."
        trial = self.predictions.trial(task)
        if trial is None or trial.position != self.trial.position:
            return "Somebody ended the trial, or its lease ran out."
        refused = [
            each.problem for each in self.predictions.servings(task) if each.release_id == self.release and each.problem
        ]
        return f"The service can't serve it: {refused[0]}" if refused else ""

    def _nothing_yet(self) -> Tried | None:
        entered = bool(self._tallies(self.release))
        if self.seconds < (self.patience if entered else max(ENTRY_SECONDS, self.patience)):
            return None
        if not entered:
            return Tried(End.FAILED, f"No worker had loaded it after {self.seconds:.0f} s.")
        told = f"No request came to it in {self.seconds:.0f} s"
        answered = self.champion.answers
        return Tried(End.NONE, f"{told}, {answered:,} to the champion, so there was no traffic to try it on.")

    def _read(self) -> None:
        """What came since the last look."""
        self._read_rows()
        self._read_labels()
        counted = {
            Role.CHAMPION: [_since(each, self._before) for each in self._tallies(self.candidate.champion.decision_id)],
            Role.CANARY: self._tallies(self.release),
        }
        self._slow = self._slow or _quantile(counted[Role.CHAMPION])
        self.champion, self.challenger = (self._arm(role, counted[role]) for role in (Role.CHAMPION, Role.CANARY))

    def _arm(self, role: Role, tallies: list[Tally]) -> Arm:
        """Confidence is of the answers that are in the log by now, which may be a moment behind."""
        total, squares = self._confidence.get(role, (0.0, 0.0))
        labelled, right = self._labelled.get(role, (0, 0))
        return Arm(
            answers=sum(each.answers for each in tallies),
            failures=sum(each.failures for each in tallies),
            slow=sum(each.slower_than(self._slow) for each in tallies) if self._slow else 0,
            confidence_sum=total,
            confidence_squares=squares,
            labelled=labelled,
            right=right,
            confidences=self._answered.get(role, 0),
        )

    def _role(self, release_id: str) -> Role | None:
        return {self.release: Role.CANARY, self.candidate.champion.decision_id: Role.CHAMPION}.get(release_id)

    def _read_rows(self) -> None:
        while rows := self.predictions.after(self._position, ROWS_AT_ONCE):
            self._position = rows[-1].position
            for each in rows:
                if (role := self._role(each.serving.release_id)) is not None:
                    sure = float(np.frombuffer(each.row.probabilities, np.float32).max())
                    total, squares = self._confidence.get(role, (0.0, 0.0))
                    self._confidence[role] = (total + sure, squares + sure * sure)
                    self._answered[role] = self._answered.get(role, 0) + 1

    def _read_labels(self) -> None:
        for label in self.predictions.labels(self._label):
            self._label = label.position
            found = self.predictions.find(label.prediction_id)
            role = self._role(found.serving.release_id) if found else None
            if found is None or role is None:
                continue
            labelled, right = self._labelled.get(role, (0, 0))
            is_right = self._classes[found.row.predicted] == label.label
            self._labelled[role] = (labelled + 1, right + is_right)

    @property
    def _classes(self) -> tuple[str, ...]:
        from flywheel.model.folder import read_model

        return read_model(Settings().paths.model(self.candidate.model_id)).classes

    def _tallies(self, release_id: str) -> list[Tally]:
        return list(self.predictions.tallies(release_id).values())


def _since(tally: Tally, before: dict[int, Tally]) -> Tally:
    start = before.get(tally.serving_id)
    if start is None:
        return tally
    seconds = tuple(now - then for now, then in zip(tally.seconds, start.seconds, strict=True))
    return replace(
        tally, answers=tally.answers - start.answers, failures=tally.failures - start.failures, seconds=seconds
    )


def _quantile(tallies: list[Tally]) -> float:
    """The edge above which an answer is slow; 0 where nothing was answered."""
    buckets = np.sum([each.seconds for each in tallies], axis=0) if tallies else np.zeros(1)
    if not buckets.sum():
        return 0.0
    place = int(np.searchsorted(np.cumsum(buckets), SLOW_QUANTILE * buckets.sum()))
    return BATCH_SECONDS[min(place, len(BATCH_SECONDS) - 1)]


def record_trial(candidate: Candidate, tried: Tried, policy: CanaryPolicy, ledger: Ledger, run: str) -> Decision:
    """The trial in the ledger, also one that was not possible."""
    return ledger.record(
        Kind.CANARY,
        candidate.champion.task_id,
        inputs={
            "model_id": candidate.model_id,
            "champion_id": candidate.champion.model_id,
            "release_id": candidate.champion.decision_id,
            "bento_tag": candidate.bento_tag,
            "gate_decision_id": candidate.gate_decision,
            "run": run,
            "at": utc_now().isoformat(timespec="seconds"),
        },
        policy=policy.model_dump(mode="json"),
        evidence={"tried": as_dict(tried)},
        verdict=VERDICTS[tried.end],
        reason=tried.reason,
    )
