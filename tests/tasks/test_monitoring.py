"""Looks at a real model's answers in a real log: what is read, concluded, recorded, shown; and every way to conclude
nothing."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flywheel.data.versions import open_arrays
from flywheel.ledger import Kind
from flywheel.monitoring.baseline import read_baseline
from flywheel.monitoring.diagnosis import Action, Cause
from flywheel.monitoring.look import Outcome, look_of
from flywheel.records import Verdict
from flywheel.settings import MonitorParameters, Settings
from tasks.monitoring import NothingToWatch, ask_for_labels, baseline_of, begin, look_at_traffic, read, record
from tasks.monitoring_page import Told, write_metrics, write_page
from tests.tasks.watched_project import PARAMETERS


@pytest.fixture
def images(project):
    """Rows of all images, in an order of chance."""
    return np.random.default_rng(0).permutation(len(open_arrays(project.version).images))


def test_no_champion_is_nothing_to_watch(project):
    with pytest.raises(NothingToWatch, match="No champion yet: 'make run'"):
        begin(project.ledger, Settings(home=project.home, database_url=""), "")


def test_a_life_from_silence_to_an_alarm(watched, images):
    decision, look, _ = watched.look()
    assert (look.outcome, decision.verdict) == (Outcome.SILENCE, Verdict.NOT_ENOUGH_EVIDENCE)

    watched.send(images[:20])
    decision, look, _ = watched.look()
    assert (look.outcome, look.to, look.answers) == (Outcome.WAITS, 0, 20)
    assert "20 predictions wait" in decision.reason

    watched.send(images[20:120])
    decision, look, _ = watched.look()
    assert (look.outcome, look.answers, look.to, look.measured.images) == (Outcome.MEASURED, 120, 120, 120)
    assert (decision.verdict, look.action) == (Verdict.PASS, Action.NOTHING)
    estimate = look.measured.estimate
    assert estimate.low <= 1.0 <= estimate.high + 0.05, "the model is right on nearly all of them"

    for part in range(6):
        watched.send(images[part * 60 : part * 60 + 60], lambda pixels: 255 - pixels)
        decision, look, window = watched.look()
        if look.alarm:
            break
    assert look.alarm, "inverted light is found"
    assert look.measured.diagnosis.cause is not Cause.NOTHING
    assert decision.evidence["action"] == look.action.value

    history = watched.project.ledger.decisions(kind=Kind.DRIFT)
    assert [each.inputs["previous"] for each in history] == [each.id for each in history[1:]] + [""]
    spans = [(look_of(each.evidence).after, look_of(each.evidence).to) for each in reversed(history)]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans)), "nothing read twice or skipped"

    odd = list(range(5))
    told = Told(decision, look, watched.champion, watched.model.classes, 3, None)
    page, figure = write_page(told, watched.project.ledger, watched.project.paths, window, odd)
    text = page.read_text()
    assert decision.id in text
    assert figure.is_file()
    assert "://" not in text.split("<body>")[1], "nothing of it is fetched from elsewhere"
    metrics = write_metrics(decision, watched.champion, look, watched.project.paths).read_text()
    assert f'flywheel_watch_alarm{{model="{watched.model.id}"' in metrics


def test_of_two_monitors_at_once_one_look_counts(watched, images):
    watched.send(images[:60])
    ledger = watched.project.ledger
    begun = [begin(ledger, watched.settings, "") for _ in range(2)]
    decisions = []
    for each in begun:
        traffic, span, judged = read(each, watched.settings, PARAMETERS)
        look, _ = look_at_traffic(each, traffic, span, judged, None, lambda: None, PARAMETERS)
        decisions.append(record(each, look, PARAMETERS, ledger))
        watched.send(images[60:70])
    assert decisions[0] is not None
    assert decisions[1] is None
    assert len(ledger.decisions(kind=Kind.DRIFT)) == 1


def test_the_baseline_is_made_once_and_again_where_it_was_changed(watched):
    paths = watched.project.paths
    baseline, reference = baseline_of(watched.model, paths), watched.reference
    folder = paths.model(watched.model.id)
    record_file, arrays = folder / "monitoring" / "baseline.json", folder / "monitoring" / "baseline.npz"
    made = record_file.stat().st_mtime_ns
    again = baseline_of(watched.model, paths)
    assert record_file.stat().st_mtime_ns == made
    assert again.regressor.width == baseline.regressor.width
    assert again.signatures.keys() == baseline.signatures.keys()
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    assert read_baseline(folder, watched.model, reference) is None
    assert read_baseline(folder, replace(watched.model, weights_sha256="ab"), reference) is None


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"probabilities": np.array([0.5, 0.9, 0.1], np.float32).tobytes()}, "Probabilities sum to 1"),
        ({"probabilities": np.array([0.5, 0.5], np.float32).tobytes()}, "Each has 3 probabilities"),
        ({"embedding": np.full(4, np.nan, np.float16).tobytes()}, "finite numbers"),
        ({"statistics": np.full(7, 3.0, np.float32).tobytes()}, "brightness is between 0 and 1"),
        ({"predicted": 7}, "one of the model's classes"),
    ],
)
def test_a_window_that_is_not_as_it_should_be_concludes_nothing(watched, images, broken, said):
    watched.send(images[:60], **broken)
    decision, look, window = watched.look()
    assert (look.outcome, window) == (Outcome.REFUSED, None)
    assert any(said in told for told in look.failed), look.failed
    assert decision.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert look.action is Action.NOTHING
    assert look.state.looks == 0, "and the alarm's evidence is what it was"
    assert look.to == 60, "it is not looked at again"


def test_old_and_repeated_predictions_are_warned_of(watched, images):
    watched.send(np.repeat(images[:40], 3), at=datetime.now(UTC) - timedelta(days=3))
    _, look, _ = watched.look()
    assert look.measured.images == 40
    assert any("at most 24 hours old" in told for told in look.warnings)
    assert any("the window has already" in told for told in look.warnings)


def test_labels_that_came_in_tell_the_true_accuracy(watched, images):
    sent = watched.send(images[:60])
    rows = {each.row.id: each.row for each in watched.log.after(0, 100)}
    for number, identity in enumerate(sent[:20]):
        wrong = number < 5
        label = watched.model.classes[(rows[identity].predicted + wrong) % 3]
        watched.log.add_label(identity, label, source="person", client="")
    _, look, _ = watched.look()
    assert (look.labels, look.labelled.value) == (20, 0.75)


def test_labels_are_asked_for_where_nobody_can_tell(watched, images):
    watched.send(images[:60])
    _, look, window = watched.look()
    unknown = replace(look.measured.diagnosis, action=Action.ASK)
    look = replace(look, measured=replace(look.measured, diagnosis=unknown))
    few = MonitorParameters.model_validate({"diagnosis": {"labels_asked": 10}})
    task = watched.champion.task_id
    asked = ask_for_labels(task, look, window, [0, 1, 2, 3], few, watched.settings)
    requests = watched.log.asked(task)
    assert len(requests) == asked
    assert sum(each.reason.startswith("audit") for each in requests) == 10
    assert ask_for_labels(task, look, window, [0, 1, 2, 3], few, watched.settings) == 0, "while those wait"
    for each in requests:
        watched.log.add_label(each.prediction_id, watched.model.classes[each.predicted], source="person", client="")
    watched.send(images[60:120])
    _, look, _ = watched.look()
    assert look.labels == 10, "the odd ones say nothing of the others"
    assert ask_for_labels(task, replace(look, measured=None), window, [], few, watched.settings) == 0
