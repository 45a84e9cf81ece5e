"""The whole loop, played on real servers: what a rehearsal does, one act after another, and what it saw.

The service is a process of its own, as `make serve` starts it; the traffic is real images over HTTP; looks, retraining
and release are the flows that a user runs, and the retraining is started by the automation in the worker of `make up`.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx

from flywheel.data.versions import load_version
from flywheel.evaluation.spending import Spending
from flywheel.ledger import Champion, Decision, Kind, Ledger, LedgerError, open_ledger
from flywheel.ledger.entries import Json, utc_now
from flywheel.ledger.predictions import PredictionLog, open_predictions
from flywheel.lineage.checks import artifacts_of
from flywheel.lineage.node import LineageError
from flywheel.lineage.release import restore_previous
from flywheel.model.folder import read_model
from flywheel.monitoring.look import Look, look_of
from flywheel.paths import Paths
from flywheel.records import DatasetVersion
from flywheel.report.rehearsal import Event, LookPoint, Played, draw_rehearsal
from flywheel.settings import PROJECT, RehearsalParameters, RetrainParameters, Settings
from tasks.addresses import answers
from tasks.cooldown import ENDED, Outcome
from tasks.gate_plan import next_budget
from tasks.rehearsal_policy import TOLD, fitted, is_small, policy_of
from tasks.retraining import as_asked
from tasks.stream import SCENARIOS, Scenario, Sent, Stream

log = logging.getLogger(__name__)

READY_SECONDS = 180.0
STOP_SECONDS = 30.0
STALL_SECONDS = 300.0
WHO, BEGINS = "rehearse", "a rehearsal begins"
RETRAIN, MONITOR = "retrain-classifier/on-drift", "monitor-classifier/hourly"


class RehearsalError(RuntimeError):
    """The rehearsal can't be played; the message says what to do."""


@dataclass
class Stage:
    """Everything that a rehearsal needs while it is played."""

    parameters: RehearsalParameters
    scenario: Scenario
    ledger: Ledger
    paths: Paths
    champion: Champion
    version: DatasetVersion
    stream: Stream
    predictions: PredictionLog
    began: datetime = field(default_factory=utc_now)
    events: list[Event] = field(default_factory=list)
    looks: list[LookPoint] = field(default_factory=list)
    moved_at: int = 0  # requests that were sent before the world moved
    uses: str = ""  # of the frozen set, in words

    def note(self, what: str) -> None:
        log.info("%s", what)
        self.events.append(Event(utc_now(), what))


def demand_quiet(settings: Settings) -> None:
    """Raises RehearsalError where a service answers already: a rehearsal would move its champion."""
    try:
        url = settings.paths.service.read_text(encoding="utf-8").strip()
    except OSError:
        return
    if answers(f"{url}/livez"):
        raise RehearsalError(
            f"A service answers at {url}: a rehearsal moves the champion that it serves. Stop it first, or rehearse in "
            "another home: FLYWHEEL_HOME=/somewhere/else make rehearse."
        )


@contextmanager
def service(settings: Settings, log_file: Path) -> Iterator[str]:
    """The champion's service in a process of its own; every image is kept, so that any may be labelled."""
    port = _free_port()
    environment = {**os.environ, "FLYWHEEL_SERVICE_KEPT_SHARE": "1", "FLYWHEEL_HOME": str(settings.paths.home)}
    command = [sys.executable, "-m", "tasks.serve", "--port", str(port)]
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, log_file)
        yield url
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        settings.paths.service.unlink(missing_ok=True)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log_file: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RehearsalError(f"The service ended while it started. See {log_file}.")
        if answers(f"{url}/readyz"):
            return
        time.sleep(0.5)
    raise RehearsalError(f"The service was not ready within {READY_SECONDS:.0f} s. See {log_file}.")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def on_stage(parameters: RehearsalParameters, settings: Settings) -> Iterator[Stage]:
    """The service up, traffic flowing; both ended on every way out."""
    ledger, paths = open_ledger(settings), settings.paths
    standing = ledger.champion(parameters.task or None)
    if standing is None:
        raise RehearsalError("No champion to rehearse with: 'make run' makes one.")
    version = load_version(paths.dataset(read_model(paths.model(standing.model_id)).dataset_id))
    spending = demand_budget(standing, version, ledger, paths)
    champion = release_for_rehearsal(standing, ledger, paths, policy_of(version))
    parameters, scenario = fitted(parameters, version), SCENARIOS[parameters.scenario]
    with (
        service(settings, paths.state / "logs" / "rehearsal-service.log") as url,
        Stream(version, url, parameters.rate, parameters.seed) as stream,
    ):
        stage = Stage(parameters, scenario, ledger, paths, champion, version, stream, open_predictions(settings))
        stage.uses = f"comparison {spending.number} of {spending.planned} that are planned on it"
        yield stage


def demand_budget(champion: Champion, version: DatasetVersion, ledger: Ledger, paths: Paths) -> Spending:
    """What is left of the frozen set, which a rehearsal uses as any gate does. RehearsalError where nothing is."""
    policy = as_asked(RetrainParameters(), policy_of(version)).gate
    spending, _ = next_budget(version, champion, policy, ledger, paths, policy.disagreement)
    if spending.spent:
        raise RehearsalError(
            f"The frozen set of this home has served all {spending.planned} comparisons that are planned on it, so no "
            "model could be promoted. Rehearse in another home: FLYWHEEL_HOME=/somewhere/else make rehearse."
        )
    return spending


def release_for_rehearsal(standing: Champion, ledger: Ledger, paths: Paths, retraining: Json | None = None) -> Champion:
    """The champion as a release of its own, so that nothing of the rehearsal mixes with what was watched before, and
    whose retrainings go by these parameters.

    Raises RehearsalError where that has an alarm: a rehearsal would hide it.
    """
    last = ledger.last_look(standing)
    look = look_of(last.evidence) if last else None
    if look is not None and look.alarm and ledger.decision(standing.decision_id).reason != BEGINS:
        raise RehearsalError(
            f"Monitoring has an alarm on {standing.model_id}, which a rehearsal would hide. See 'make status'; or "
            "rehearse in another home: FLYWHEEL_HOME=/somewhere/else make rehearse."
        )
    _release_again(standing, ledger, paths, BEGINS, retraining)
    return cast(Champion, ledger.champion(standing.task_id))


def _release_again(
    champion: Champion, ledger: Ledger, paths: Paths, reason: str, retraining: Json | None = None
) -> None:
    artifacts = artifacts_of(read_model(paths.model(champion.model_id)), paths)
    ledger.release_again(champion, reason=reason, who=WHO, artifacts=artifacts, retraining=retraining)


def watch_once(stage: Stage, look: Callable[[], Decision | None]) -> LookPoint | None:
    """A window of traffic, then a look; None where another monitor looked meanwhile."""
    stage.stream.wait_for(stage.parameters.window_answers, STALL_SECONDS)
    time.sleep(1.0)  # until the last answers are in the log
    decision = look()
    found = look_of(decision.evidence) if decision else None
    if decision is None or found is None:
        return None
    point = _point(decision, found)
    stage.looks.append(point)
    if point.alarm and not any(each.alarm for each in stage.looks[:-1] if each.release_id == point.release_id):
        stage.note(f"alarm: {point.told}")
    return point


def _point(decision: Decision, look: Look) -> LookPoint:
    measured = look.measured
    estimate = measured.estimate if measured else None
    return LookPoint(
        at=decision.created_at,
        decision_id=decision.id,
        release_id=decision.inputs["release_id"],
        evidence=measured.alarm.evidence if measured else None,
        threshold=measured.alarm.threshold if measured else None,
        alarm=look.alarm,
        accuracy=estimate.value if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        action=look.action.value,
        told=str(measured.diagnosis.cause) if measured else str(look.outcome),
    )


def last_look(stage: Stage) -> Decision | None:
    champion = stage.ledger.champion(stage.champion.task_id)
    return stage.ledger.last_look(champion) if champion else None


def move_the_world(stage: Stage) -> None:
    stage.moved_at = len(stage.stream.sent)
    stage.stream.world = stage.scenario
    stage.note(f"the world moves: {stage.scenario.told}")


def send_labels(stage: Stage) -> int:
    """True labels of answers since the world moved, or an attacker's."""
    answered = [each for each in stage.stream.sent if each.moved and each.prediction_id]
    taken = _label(stage, answered[-stage.parameters.labels_sent :])
    stage.note(f"{taken:,} labels come in" + (", an attacker's" if stage.scenario.attack else ""))
    return taken


def send_asked_labels(stage: Stage) -> None:
    """Those that monitoring asks for where it can't tell without."""
    taken = _label(stage, stage.stream.asked())
    stage.note(f"{taken:,} labels come in that were asked for" + (", an attacker's" if stage.scenario.attack else ""))


def _label(stage: Stage, answers: list[Sent]) -> int:
    source = "attacker" if stage.scenario.attack else "rehearsal"
    return stage.stream.label(answers, source, attack=stage.scenario.attack)


def retrainings(stage: Stage) -> list[Decision]:
    """Of this rehearsal, the newest first."""
    found = stage.ledger.decisions(kind=Kind.RETRAIN, task_id=stage.champion.task_id)
    return [each for each in found if each.created_at >= stage.began]


def wait_for_retraining(stage: Stage, known: int, seconds: float, under_way: Callable[[], bool]) -> Decision | None:
    """The next decision of a retraining, after so many; None where none came in that time and none is under way."""
    deadline = time.monotonic() + seconds
    promoted, tried = False, 0
    while True:
        goes_on = time.monotonic() < deadline or under_way()  # asked before the decision is looked for
        found = retrainings(stage)
        champion = stage.ledger.champion(stage.champion.task_id)
        if not promoted and champion is not None and champion.model_id != stage.champion.model_id:
            promoted = True
            stage.note(f"hot swap: {champion.model_id} is champion")
        trial = stage.predictions.trial(stage.champion.task_id)
        if trial is not None and trial.position != tried:
            tried = trial.position
            stage.note(f"{trial.model_id} answers {trial.share:.0%} of the requests, on trial")
        if len(found) > known:
            decision = found[0]
            stage.note(f"retraining: {decision.evidence['outcome']}")
            return decision
        if not goes_on:
            return None
        time.sleep(1.0)


def is_over(decision: Decision | None) -> bool:
    return decision is not None and decision.evidence["outcome"] in {each.value for each in (*ENDED, Outcome.SAME)}


def put_back(stage: Stage, settings: Settings) -> None:
    """The champion that stood before, as a release of its own: no alarm, label or cooldown of the rehearsal stays."""
    now = stage.ledger.champion(stage.champion.task_id)
    told = "the rehearsal ended, and leaves the champion as it found it"
    if now is None or (stage.parameters.keep and now.model_id != stage.champion.model_id):
        return
    try:
        if now.model_id == stage.champion.model_id:
            _release_again(now, stage.ledger, settings.paths, told)
        else:
            restore_previous(stage.champion.task_id, stage.ledger, settings.paths, reason=told, who=WHO)
    except (LedgerError, LineageError) as error:
        log.warning("%s stays champion as it is: %s", now.model_id, error)


def played(stage: Stage, decisions: list[Decision], runs: list[dict[str, Any]], minutes: float) -> Played:
    """All that was seen, as one record."""
    sent = stage.stream.sent
    swapped = next((each.at for each in stage.events if each.what.startswith("hot swap")), None)
    moved = [each for each in sent if each.moved]
    alarm = next((each for each in stage.looks if each.alarm), None)
    moved_from = next((each.at for each in stage.events if each.what.startswith("the world moves")), None)
    healed = [each for each in moved if swapped and each.at > swapped and each.model_id != stage.champion.model_id]
    before = stage.champion.decision_id
    false_alarms = [each for each in stage.looks if each.alarm and (moved_from is None or each.at < moved_from)]
    after_swap = [each for each in stage.looks if each.alarm and swapped and each.release_id != before]
    end = decisions[0] if decisions else None
    return Played(
        scenario=stage.scenario.name,
        told=stage.scenario.told,
        seed=stage.parameters.seed,
        began=stage.began,
        minutes=minutes,
        champion=stage.champion.model_id,
        new_model=str(end.evidence.get("new_model_id", "")) if end else "",
        promoted=swapped is not None,
        must_promote=stage.scenario.heals,
        outcome=str(end.evidence["outcome"]) if end else _nothing(stage),
        reason=end.reason if end else "",
        requests=len(sent),
        failed_requests=len(stage.stream.failed),
        false_alarms=len(false_alarms) + len(after_swap),
        images_until_alarm=_until(moved, alarm.at) if alarm and moved_from else None,
        minutes_to_heal=(swapped - moved_from).total_seconds() / 60 if swapped and moved_from else None,
        accuracy_before=_accuracy([each for each in sent if not each.moved]),
        accuracy_under_drift=_accuracy([each for each in moved if each.model_id == stage.champion.model_id]),
        accuracy_after=_accuracy(healed),
        events=tuple(stage.events),
        looks=tuple(stage.looks),
        decisions=tuple(each.id for each in decisions),
        runs=tuple(runs),
        answers=tuple((each.at, each.answered == each.label) for each in sent if each.prediction_id),
        last_prediction=healed[-1].prediction_id if healed else "",
        policy=TOLD if is_small(stage.version) else "",
        frozen_set=stage.uses,
    )


def _nothing(stage: Stage) -> str:
    actions = [each.action for each in stage.looks if each.alarm]
    return f"no retraining: monitoring says “{actions[-1]}”" if actions else "no retraining: no alarm"


def _accuracy(sent: list[Sent]) -> float | None:
    found = [each.answered == each.label for each in sent if each.prediction_id]
    return sum(found) / len(found) if found else None


def _until(moved: list[Sent], at: datetime) -> int:
    return sum(each.at <= at for each in moved)


def keep(found: Played, paths: Paths) -> Path:
    """The record and its picture, under `reports/rehearsals`."""
    from flywheel.records import to_json

    folder = paths.rehearsal(f"{found.scenario}-{found.began:%Y%m%dT%H%M%S}")
    folder.mkdir(parents=True, exist_ok=True)
    draw_rehearsal(found, folder / "rehearsal.png")
    (folder / "rehearsal.json").write_text(to_json(found) + "\n", encoding="utf-8")
    return folder


def warm(url: str) -> None:
    httpx.get(f"{url}/model", trust_env=False, timeout=10).raise_for_status()
