"""One look of monitoring, step by step: where it begins, what it reads, what it measures, what it leaves in the ledger.

Measuring and deciding are the core's; this is what stands between them and the database, the model's folder and the
validation.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from flywheel.data.versions import load_version, open_arrays
from flywheel.identity import canonical_json
from flywheel.ledger import Champion, Decision, Ledger
from flywheel.ledger.predictions import open_predictions
from flywheel.ledger.traffic import AUDIT, Judged, Traffic, open_traffic
from flywheel.model.folder import read_model
from flywheel.model.reference import Reference, read_reference
from flywheel.monitoring.accuracy_estimate import accuracy_of_labels, estimate
from flywheel.monitoring.alarm import AlarmState
from flywheel.monitoring.alarm import look as look_at
from flywheel.monitoring.baseline import Baseline, fit_baseline, read_baseline, tried_rows, write_baseline
from flywheel.monitoring.diagnosis import Action, diagnose
from flywheel.monitoring.drift import DriftError, measure_drift
from flywheel.monitoring.look import Look, Measured, Outcome, verdict_of
from flywheel.paths import Paths
from flywheel.records import Severity, Side, TrainedModel, ValidationResult, as_dict, from_json
from flywheel.settings import MonitorParameters, Settings
from tasks.window import Span, Window, span_of, window_of

log = logging.getLogger(__name__)

USUAL_LOOKS = 24  # whose rate is the usual one
MOST_ODD = 16  # images far from all that the model was made for, whose labels are asked for


class NothingToWatch(Exception):  # noqa: N818 - it reads as what it says
    """No champion, so there is no traffic of one."""


@dataclass(frozen=True)
class Begun:
    """Where a look begins."""

    champion: Champion
    model: TrainedModel
    previous: str  # the decision of the look before; empty for the first of a release
    after: int  # a position in the prediction log
    since: datetime  # when the look before ended, or the release
    state: AlarmState
    usual_rate: float | None  # predictions an hour


def begin(ledger: Ledger, settings: Settings, task_id: str) -> Begun:
    """Raises NothingToWatch where the task has no champion."""
    champion = ledger.champion(task_id or None)
    if champion is None:
        of = f" of {task_id}" if task_id else ""
        raise NothingToWatch(f"No champion{of} yet: 'make run' makes one, 'make serve' serves it.")
    model = read_model(settings.paths.model(champion.model_id))
    last = ledger.last_look(champion)
    if last is None:
        with closing(open_traffic(settings)) as reader:
            after = reader.before(champion.since)
        return Begun(champion, model, "", after, champion.since, AlarmState(), None)
    state, to, ended = _end_of(last)
    return Begun(champion, model, last.id, to, ended or last.created_at, state, _usual_rate(ledger, champion))


def _end_of(decision: Decision) -> tuple[AlarmState, int, datetime | None]:
    """What the next look begins with, which every version can read of every other."""
    look = decision.evidence["look"]
    last = look.get("last")
    return (
        from_json(AlarmState, canonical_json(look["state"])),
        int(look["to"]),
        datetime.fromisoformat(last) if last else None,
    )


def _usual_rate(ledger: Ledger, champion: Champion) -> float | None:
    looks = ledger.looks(champion, limit=USUAL_LOOKS)
    rates = [rate for each in looks if (rate := each.evidence["look"].get("per_hour"))]
    return float(np.median(rates)) if rates else None


def baseline_of(model: TrainedModel, paths: Paths) -> Baseline:
    """The model's baseline; made before its first look, and again where the code that makes it changed."""
    folder = paths.model(model.id)
    reference = read_reference(folder)
    found = read_baseline(folder, model, reference)
    if found is None:
        log.info("%s: its baseline is made: corrupted copies of its reference are answered", model.id)
        found = _make_baseline(model, reference, paths)
        write_baseline(folder, found, model)
    return found


def _make_baseline(model: TrainedModel, reference: Reference, paths: Paths) -> Baseline:
    from flywheel.model.inference import load_model

    arrays = open_arrays(load_version(paths.dataset(model.dataset_id)))
    classifier = load_model(paths.model(model.id))
    rows = tried_rows(reference)
    side = arrays.side(Side.REFERENCE)
    places = dict(zip(arrays.ids[side].tolist(), side.tolist(), strict=True))
    images = arrays.images[[places[name] for name in reference.ids[rows].tolist()]]

    def predict(changed: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        outputs = classifier.predict_packed(changed)
        return outputs.logits, outputs.embeddings

    return fit_baseline(reference, images, rows, predict)


def read(begun: Begun, settings: Settings, parameters: MonitorParameters) -> tuple[Traffic, Span | None, list[Judged]]:
    """What was answered since the look before, and all labels since the release."""
    with closing(open_traffic(settings)) as reader:
        traffic = reader.since(begun.champion, begun.after, parameters.window.most_images)
        return traffic, span_of(traffic, begun.since), reader.labels(begun.champion)


def look_at_traffic(
    begun: Begun,
    traffic: Traffic,
    span: Span | None,
    judged: list[Judged],
    check: ValidationResult | None,
    baseline: Callable[[], Baseline],
    parameters: MonitorParameters,
) -> tuple[Look, Window | None]:
    """What this look concludes; the window where it was measured."""
    classes = begun.model.classes
    right = np.array([classes[each.predicted] == each.label for each in judged], bool)
    look = Look(
        outcome=Outcome.SILENCE,
        after=begun.after,
        to=traffic.to,
        answers=traffic.answers,
        counted=traffic.is_counted,
        first=span.first if span else None,
        last=span.last if span else None,
        per_hour=traffic.answers / span.hours if span and span.hours else None,
        state=begun.state,
        labelled=accuracy_of_labels(right),
        labels=len(judged),
    )
    if check is None:
        return look, None
    told = {severity: _told(check, severity) for severity in Severity}
    look = replace(look, warnings=told[Severity.WARNING], failed=told[Severity.CRITICAL])
    if not check.passed:
        return replace(look, outcome=Outcome.REFUSED), None
    window = window_of(traffic, len(classes))
    if len(window.sample) < parameters.window.fewest_images:
        return replace(look, outcome=Outcome.WAITS, to=begun.after), None
    try:
        drawn = right[[each.audited for each in judged]] if judged else right
        audited = int(drawn.sum()), len(drawn)
        measured, state = measure(begun.state, baseline(), window, parameters, audited)
    except DriftError as error:  # of a reference, or a model, that tells nothing; it will be so at the next look
        return replace(look, outcome=Outcome.BLIND, warnings=(*look.warnings, str(error))), None
    return replace(look, outcome=Outcome.MEASURED, measured=measured, state=state), window


def measure(
    state: AlarmState,
    baseline: Baseline,
    window: Window,
    parameters: MonitorParameters,
    audited: tuple[int, int] = (0, 0),
) -> tuple[Measured, AlarmState]:
    """`audited` are labels of answers drawn at random after the alarm: right, and all."""
    drift = measure_drift(baseline.drift, window.sample)
    state, alarm = look_at(state, drift, parameters.alarm)
    estimated = estimate(baseline.regressor, baseline.yardstick, window.sample)
    diagnosis = diagnose(
        baseline,
        drift,
        estimated,
        window.sample,
        alarm=alarm.alarm,
        policy=parameters.diagnosis,
        labels=audited,
    )
    return Measured(len(window.sample), drift, alarm, diagnosis), state


def record(begun: Begun, look: Look, parameters: MonitorParameters, ledger: Ledger) -> Decision | None:
    """The decision on this look; None where another monitor looked meanwhile, whose decision counts."""
    verdict, reason = verdict_of(look)
    return ledger.record_look(
        begun.champion.task_id,
        begun.previous,
        inputs={
            "model_id": begun.model.id,
            "release_id": begun.champion.decision_id,
            "after": look.after,
            "to": look.to,
        },
        policy={
            "window": parameters.window.model_dump(mode="json"),
            "alarm": parameters.alarm.model_dump(mode="json"),
            "diagnosis": parameters.diagnosis.model_dump(mode="json"),
        },
        evidence={"look": as_dict(look), "action": look.action.value},
        verdict=verdict,
        reason=reason,
    )


def ask_for_labels(
    task_id: str,
    look: Look,
    window: Window | None,
    odd: Sequence[int],
    parameters: MonitorParameters,
    settings: Settings,
) -> int:
    """Where nobody can tell without labels, ask for some: drawn at random, and of the oddest images. Those whose bytes
    are on disk alone, since nobody can label what can't be shown; and no more while as many wait, or else every look
    would add to a heap that nobody can work off. Returns how many were asked for."""
    if look.action is not Action.ASK or window is None:
        return 0
    kept = [place for place, here in enumerate(window.kept) if here]
    random = np.random.default_rng(look.to)
    predictions = open_predictions(settings)
    wanted = max(0, parameters.diagnosis.labels_asked - predictions.count_asked(task_id))
    drawn = random.permutation(kept)[:wanted].tolist()
    strange = [place for place in odd if window.kept[place] and place not in set(drawn)][: MOST_ODD if wanted else 0]
    predictions.ask([window.prediction_ids[place] for place in drawn], f"{AUDIT}: drawn at random after an alarm")
    predictions.ask([window.prediction_ids[place] for place in strange], "far from all that the model was made for")
    return len(drawn) + len(strange)


def _told(check: ValidationResult, severity: Severity) -> tuple[str, ...]:
    return tuple(f"{each.description}: {each.observed}" for each in check.failed(severity))
