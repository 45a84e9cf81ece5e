"""From labels in a real log to what may teach: judged by the real suite, and what is set aside is listed."""

import csv

import numpy as np
import pytest

from flywheel.data.versions import open_arrays
from flywheel.policies import LabelPolicy
from tasks.labels import TEACHES, ask_for_more, gather_labels
from tasks.monitoring import baseline_of

POLICY = LabelPolicy()
BELIEVED = (0.85, 0.99)


@pytest.fixture
def truth(watched):
    """Prediction ids of 120 answers, and the true classes."""
    arrays = open_arrays(watched.project.version)
    rows = np.random.default_rng(0).permutation(len(arrays.images))[:120]
    names = [watched.model.classes[label] for label in arrays.labels[rows]]
    return watched.send(rows), names


def label(watched, ids, names, source="person", client=""):
    for one, name in zip(ids, names, strict=True):
        watched.log.add_label(one, name, source=source, client=client)


def gather(watched, believed=BELIEVED):
    return gather_labels(watched.champion, watched.model, believed, POLICY, watched.settings)


def test_no_label_is_nothing_to_validate(watched):
    found = gather(watched)
    assert (found.accepted, found.set_aside, found.check) == ((), (), None)


def test_honest_labels_are_all_believed(watched, truth):
    label(watched, *truth)
    found = gather(watched)
    assert [each.prediction_id for each in found.accepted] == truth[0]
    assert found.set_aside == ()
    assert found.check.passed
    assert not list(watched.project.paths.interim.glob("labels/*"))


def test_rows_that_break_a_rule_are_set_aside_and_listed_with_their_reason(watched, truth):
    ids, names = truth
    label(watched, ids[:50], names[:50])
    watched.log.add_label(f"{9_999:036}", names[0], source="person", client="")
    watched.log.add_label(ids[50], "zebra", source="person", client="")
    watched.log.add_label(
        ids[0], next(name for name in watched.model.classes if name != names[0]), source="x", client=""
    )
    found = gather(watched)
    assert [each.prediction_id for each in found.accepted] == ids[1:50]
    reasons = {each.answer.prediction_id: each.reason for each in found.set_aside}
    assert reasons == {
        f"{9_999:036}": "not so: Each label is of a prediction that is on record",
        ids[50]: "not so: Each label is one of the model's classes",
        ids[0]: "not so: No image has two different labels",
    }
    (file,) = watched.project.paths.interim.glob("labels/*.csv")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["prediction_id"], row["reason"]) for row in rows] == [
        (each.answer.prediction_id, each.reason) for each in found.set_aside
    ]
    assert len(rows) == 4
    assert found.check.docs.is_file()
    assert "2 not so: No image has two different labels" in found.summary


def test_who_changes_their_mind_is_believed_the_second_time(watched, truth):
    ids, names = truth
    label(watched, ids[:30], np.roll(names[:30], 1))
    label(watched, ids[:30], names[:30])
    assert [each.label for each in gather(watched).accepted] == names[:30]


def test_a_liar_is_set_aside_and_can_contradict_nobody(watched, truth):
    """Who labels all images anew, as one class, would else have all honest labels set aside as contradicted."""
    ids, names = truth
    label(watched, ids, names, client="alice")
    label(watched, ids, [watched.model.classes[0]] * len(ids), client="mallory")
    found = gather(watched)
    assert [each.prediction_id for each in found.accepted] == ids
    assert {each.answer.client for each in found.set_aside} == {"mallory"}
    assert all("person (mallory): " in each.reason for each in found.set_aside)


def test_honest_labels_that_disagree_are_believed_where_the_loss_was_estimated(watched):
    """Inverted light: the model is wrong, and the labels are right."""
    arrays = open_arrays(watched.project.version)
    rows = np.random.default_rng(0).permutation(len(arrays.images))[:100]
    ids = watched.send(rows, lambda pixels: 255 - pixels)
    names = [watched.model.classes[each] for each in arrays.labels[rows]]
    label(watched, ids, names)
    answered = {each.prediction_id: each.predicted for each in gather(watched, (0.0, 0.5)).accepted}
    right = np.mean([watched.model.classes[answered[one]] == name for one, name in zip(ids, names, strict=True)])
    assert len(answered) == 100
    assert right < 0.8
    assert gather(watched, (0.99, 1.0)).accepted == ()


def test_the_one_camera_that_drifts_is_not_taken_for_a_liar(watched):
    """Its own images show that the model fails there. A liar on images that look well is found as before."""
    arrays = open_arrays(watched.project.version)
    rows = np.random.default_rng(0).permutation(len(arrays.images))
    names = np.array(watched.model.classes)[arrays.labels[rows]]
    label(watched, watched.send(rows[:100], lambda pixels: 255 - pixels), names[:100], source="drifted camera")
    label(watched, watched.send(rows[100:200]), np.roll(names[100:200], 1), source="liar")
    assert {each.answer.source for each in gather(watched).set_aside} == {"drifted camera", "liar"}
    baseline_of(watched.model, watched.project.paths)
    found = gather(watched)
    assert {each.source for each in found.accepted} == {"drifted camera"}
    assert {each.answer.source for each in found.set_aside} == {"liar"}


def test_labels_are_asked_for_of_images_that_can_be_shown(watched, truth):
    kept = truth[0][:40]
    for one in kept[:30]:
        file = watched.project.paths.predicted_image(watched.log.find(one).row.image_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    assert ask_for_more(watched.champion, watched.model, 12, watched.settings) == 12
    asked = watched.log.asked(watched.champion.task_id)
    assert {each.prediction_id for each in asked} <= set(kept[:30])
    assert {each.reason for each in asked} == {TEACHES}
    assert ask_for_more(watched.champion, watched.model, 12, watched.settings) == 12, "no more while as many wait"
    label(watched, [each.prediction_id for each in asked[:5]], ["zero"] * 5)
    assert ask_for_more(watched.champion, watched.model, 12, watched.settings) == 12
    again = {each.prediction_id for each in watched.log.asked(watched.champion.task_id)}
    assert not again & {each.prediction_id for each in asked[:5]}, "what is labelled is not asked for again"


def test_a_copy_of_an_image_is_asked_for_once(watched):
    ids = watched.send(np.repeat(np.arange(10), 4))
    for one in ids:
        file = watched.project.paths.predicted_image(watched.log.find(one).row.image_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    assert ask_for_more(watched.champion, watched.model, 30, watched.settings) == len(
        {watched.log.find(one).row.image_id for one in ids}
    )
