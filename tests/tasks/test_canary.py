"""A trial on live traffic, by what workers count and what the log holds: what it comes to, and that it always ends."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.ledger import Kind
from flywheel.ledger.predictions import BATCH_SECONDS, Role, Serving, Tally, open_predictions
from flywheel.policies import CanaryPolicy, ReleasePolicy
from flywheel.records import Verdict
from flywheel.settings import ReleaseParameters, Settings
from tasks import releasing
from tasks.canary import Candidate, End, record_trial, try_on_traffic
from tests.flywheel.ledger.test_predictions import row

POLICY = CanaryPolicy(fewest_answers=50, most_answers=3000, longest_seconds=30)
CHAMPION, CANARY = 11, 12


class Workers:
    """Stands for the workers of a service: follows trials, and counts answers at a rate."""

    def __init__(self, watched, *, failures=0.0, slow=False, rate=120, sure=0.8):
        self.log = open_predictions(watched.settings)
        self.champion, self.task = watched.champion, watched.champion.task_id
        self.failures, self.slow, self.rate, self.sure = failures, slow, rate, sure
        self.classes = len(watched.model.classes)
        self.number = 0
        self.random = np.random.default_rng(0)
        names = (self.task, self.champion.model_id, self.champion.bento_tag, self.champion.decision_id)
        self.serving = Serving(CHAMPION, *names, Role.CHAMPION, "host:1", datetime.now(UTC))
        self.log.append([self.serving], [])
        self.counts = {CHAMPION: [0, 0, 0], CANARY: [0, 0, 0]}  # quick, slow, failures
        self.seen = None

    def step(self):
        trial = self.log.trial(self.task)
        if trial is not None and self.seen != trial.position:
            self.seen = trial.position
            release = f"trial-{trial.position}"
            self.log.append(
                [replace(self.serving, id=CANARY, model_id=trial.model_id, role=Role.CANARY, release_id=release)], []
            )
        for serving in (CHAMPION, *((CANARY,) if trial else ())):
            self._answer(serving)
        self.log.note([self._tally(serving) for serving in (CHAMPION, *((CANARY,) if self.seen else ()))])

    def _answer(self, serving):
        count = self.counts[serving]
        for _ in range(self.rate):
            if serving == CANARY and self.random.random() < self.failures:
                count[2] += 1
                continue
            count[1 if serving == CANARY and self.slow else 0] += 1
            self._log(serving)

    def _log(self, serving):
        self.number += 1
        sure = self.sure if serving == CANARY else 0.8
        probabilities = np.full(self.classes, (1 - sure) / (self.classes - 1), np.float32)
        probabilities[0] = sure
        made = row(self.number, replace(self.serving, id=serving))
        self.log.append([], [made._replace(predicted=0, probabilities=probabilities.tobytes())])

    def _tally(self, serving):
        quick, slow, failures = self.counts[serving]
        seconds = [0] * (len(BATCH_SECONDS) + 1)
        seconds[3], seconds[-5] = quick, slow
        return Tally(serving, quick + slow, failures, tuple(seconds), datetime.now(UTC))


@contextmanager
def working(workers):
    stop = threading.Event()

    def run():
        while not stop.wait(0.3):
            workers.step()

    workers.step()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def candidate(watched) -> Candidate:
    return Candidate(watched.champion, watched.project.weak.id, "classifier:weak", "dec-0123456789ab")


def tried(watched, policy=POLICY, patience=3.0):
    return try_on_traffic(candidate(watched), policy, patience, watched.project.ledger, watched.settings, "run-1")


def test_without_a_service_no_trial_is_possible(watched):
    found = tried(watched)
    assert (found.end, watched.log.trial(watched.champion.task_id)) == (End.NONE, None)
    assert "No service" in found.reason


def test_without_traffic_there_is_nothing_to_see(watched):
    with working(Workers(watched, rate=0)):
        found = tried(watched)
    assert (found.end, watched.log.trial(watched.champion.task_id)) == (End.NONE, None)
    assert "no traffic" in found.reason


def test_an_equal_challenger_passes(watched):
    with working(Workers(watched)):
        found = tried(watched)
    assert found.end is End.PASSED, found.reason
    assert found.challenger.answers >= 50
    assert found.challenger.confidence_sum == pytest.approx(0.8 * found.challenger.confidences, rel=1e-3)
    assert watched.log.trial(watched.champion.task_id) is None
    decision = record_trial(candidate(watched), found, POLICY, watched.project.ledger, "run-1")
    assert (decision.kind, decision.verdict) == (Kind.CANARY, Verdict.PASS)


@pytest.mark.parametrize(
    ("harm", "said"), [({"failures": 1.0}, "failed"), ({"slow": True}, "slow"), ({"sure": 0.3}, "confidence")]
)
def test_harm_ends_the_trial(watched, harm, said):
    with working(Workers(watched, **harm)):
        found = tried(watched)
    assert found.end is End.FAILED
    assert said in found.reason
    assert watched.log.trial(watched.champion.task_id) is None


def test_who_ends_the_trial_holds_the_model_back(watched):
    def end_it() -> None:
        log = open_predictions(watched.settings)
        while (trial := log.trial(watched.champion.task_id)) is None:
            pass
        log.end_trial(trial, reason="enough", who="ada")

    with working(Workers(watched, rate=0)):
        other = threading.Thread(target=end_it)
        other.start()
        found = tried(watched, patience=20)
        other.join()
    assert found.end is End.FAILED
    assert "Somebody ended the trial" in found.reason


@pytest.fixture
def passed(watched, monkeypatch):
    """A gate's decision that passed, for the model on trial; that its Bento is whole is another test's matter."""
    ledger = watched.project.ledger
    gate = ledger.decisions(kind=Kind.GATE)[0]
    asked = replace(gate, inputs={**gate.inputs, "model_id": watched.project.weak.id})
    monkeypatch.setattr(releasing, "demand_releasable", lambda *_: asked)
    return ReleaseParameters(
        gate_decision=gate.id, bento_tag="classifier:weak", canary=POLICY, policy=ReleasePolicy(patience_seconds=2)
    )


def test_a_model_that_does_harm_is_held_back_on_record(watched, passed, monkeypatch):
    with working(Workers(watched, failures=1.0)):
        release = releasing.release_model(passed)
    assert not release.promoted
    assert "failed on live traffic (dec-" in release.reason
    assert watched.project.ledger.champion() == watched.champion
    (canary,) = watched.project.ledger.decisions(kind=Kind.CANARY)
    assert (canary.verdict, canary.id) == (Verdict.FAIL, release.decision_id)


def test_a_service_that_can_not_serve_the_new_champion_gets_the_one_before(watched, monkeypatch):
    ledger, settings = watched.project.ledger, watched.settings
    workers = Workers(watched)
    workers.step()
    again = ledger.release_again(watched.champion, reason="a new one", who="a test", artifacts={})
    fresh = ledger.champion()
    refused = replace(workers.serving, id=99, release_id=fresh.decision_id, problem="its weights are damaged")
    workers.log.append([refused], [])
    monkeypatch.setattr(releasing, "restore_previous", lambda *_, **given: replace(again, reason=given["reason"]))
    release = releasing.watch_release(replace(again, promoted=True), ReleasePolicy(guard_seconds=5))
    assert not release.promoted
    assert "its weights are damaged" in release.reason
    assert Settings(home=settings.home).paths.home == settings.home
