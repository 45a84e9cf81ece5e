"""Who may retrain, from what, and what becomes of it: on a real model's answers in a real log."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flywheel.data.extension import extend_version
from flywheel.data.index import build_index
from flywheel.ledger import Kind
from flywheel.ledger.leases import Held, LeaseLost, open_leases
from flywheel.monitoring.diagnosis import Action
from flywheel.records import GateVerdict, Release, Verdict
from flywheel.settings import RehearsalParameters, RetrainParameters
from tasks.cooldown import Outcome, cooldown_until
from tasks.labels import ask_for_more, gather_labels
from tasks.rehearsal_policy import fitted, policy_of
from tasks.rehearsing import release_for_rehearsal
from tasks.retraining import (
    NothingToRetrain,
    Refusal,
    as_released,
    cooling,
    end_of,
    find_cause,
    last_asking,
    lay_out,
    recipe_of,
    record,
    tried_before,
    usable,
    working_on,
)
from tests.tasks.watched_project import Watched

NOW = datetime.now(UTC)
PARAMETERS = RetrainParameters(cause="drift")


@pytest.fixture
def asked(watched: Watched) -> Watched:
    """Monitoring has asked for a retraining."""
    watched.asks = drift(watched, "1")
    return watched


def drift(watched: Watched, name: str, action: Action = Action.RETRAIN, measured: bool = True):
    champion = watched.champion
    inputs = {"model_id": champion.model_id, "release_id": champion.decision_id, "after": 0, "to": int(name)}
    evidence = {"action": action.value, "look": {"measured": {"a": 1} if measured else None}}
    last = watched.project.ledger.last_look(champion)
    return watched.project.ledger.record_look(
        champion.task_id,
        last.id if last else "",
        inputs=inputs,
        policy={},
        evidence=evidence,
        verdict=Verdict.FAIL,
        reason="It moved.",
    )


def cause_of(watched: Watched, run: str = "run-1", **changed):
    parameters = PARAMETERS.model_copy(update=changed)
    return find_cause(parameters, watched.project.ledger, watched.settings, run, NOW)


def send_kept(watched: Watched, count: int = 60) -> list[tuple[str, str]]:
    """Predictions whose images are kept, with their true labels."""
    from io import BytesIO

    from PIL import Image

    arrays = watched.arrays
    rows = np.arange(len(arrays.ids))[:count]

    def change(images):  # other images, which the model takes for what they are
        return np.clip(images.astype(int) + 2, 0, 255).astype(np.uint8)

    changed = []
    ids = watched.send(rows, lambda images: changed.append(change(images)) or changed[0])
    found = {each.row.id: each.row for each in watched.log.after(0, 1000)}
    for identity, image in zip(ids, changed[0], strict=True):
        path = watched.project.paths.predicted_image(found[identity].image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = BytesIO()
        Image.fromarray(image).save(file, "PNG")
        path.write_bytes(file.getvalue())
    classes = watched.model.classes
    return [(identity, classes[arrays.labels[row]]) for identity, row in zip(ids, rows, strict=True)]


def test_without_a_champion_or_a_decision_there_is_nothing_to_do(project, watched):
    with pytest.raises(NothingToRetrain, match="asks for a retraining"):
        cause_of(watched)
    assert cause_of(watched, cause="hand").claim == "hand-run-1"
    year, week, _ = NOW.isocalendar()
    assert cause_of(watched, cause="calendar").claim == f"{watched.champion.task_id}-{year}-w{week:02}"


def test_a_decision_is_acted_on_once_whoever_comes(asked):
    first, second = cause_of(asked), cause_of(asked, "run-2", decision=asked.asks.id)
    assert first.claim == second.claim == asked.asks.id
    with working_on(first, asked.settings) as held:
        assert isinstance(held, Held)
    with working_on(second, asked.settings) as refused:
        assert isinstance(refused, Refusal)
        assert refused.outcome is Outcome.TAKEN
    with pytest.raises(NothingToRetrain):
        cause_of(asked, "run-3")
    with working_on(cause_of(asked), asked.settings) as again:  # the same run, tried again after a crash
        assert isinstance(again, Held)


def test_a_second_event_while_one_runs_is_told_so(asked):
    with working_on(cause_of(asked), asked.settings):
        drift(asked, "2")
        with working_on(cause_of(asked, "run-2"), asked.settings) as refused:
            assert refused.outcome is Outcome.BUSY
            assert "run-1" in refused.reason


def test_who_was_silent_too_long_has_lost_the_lease(asked):
    with working_on(cause_of(asked), asked.settings) as held:
        leases = open_leases(asked.settings)
        leases.take(f"retrain-{asked.champion.task_id}", "other", 60, datetime.now(UTC) + timedelta(hours=1))
        held.lost = held.lost or "it is another's"
        with pytest.raises(LeaseLost):
            held.demand()


def test_a_decision_about_another_release_or_another_matter_is_refused(asked):
    with pytest.raises(NothingToRetrain, match="does not ask for a retraining"):
        cause_of(asked, decision=drift(asked, "2", Action.REPORT).id)
    asked.project.ledger.release_again(asked.champion, reason="anew", who="a test", artifacts={})
    with pytest.raises(NothingToRetrain, match="another release"):
        cause_of(asked, decision=asked.asks.id)


def test_a_later_look_that_measured_takes_the_question_back(asked):
    ledger = asked.project.ledger
    drift(asked, "2", Action.NOTHING, measured=False)
    assert last_asking(ledger, asked.champion).id == asked.asks.id
    drift(asked, "3", Action.REPORT)
    assert last_asking(ledger, asked.champion) is None


def test_after_one_that_did_not_help_none_begins_for_a_while(asked):
    ledger, cause = asked.project.ledger, cause_of(asked)
    assert cooling(cause, PARAMETERS, ledger, NOW) is None
    made = record(cause, Outcome.NOT_HELPED, "no better", PARAMETERS, ledger, {"dataset_id": "ds-1"})
    later = replace(cause, run="run-2", claim="dec-2")
    assert "no better" in cooling(later, PARAMETERS, ledger, datetime.now(UTC)).reason
    assert cooldown_until(made) > datetime.now(UTC) + timedelta(hours=23)
    assert cooling(later, PARAMETERS, ledger, datetime.now(UTC) + timedelta(hours=25)) is None
    assert cooling(cause, PARAMETERS, ledger, datetime.now(UTC)) is None, "the run itself, tried again"
    again = asked.project.ledger.release_again(asked.champion, reason="anew", who="a test", artifacts={})
    fresh = replace(later, champion=ledger.champion(again.task_id))
    assert cooling(fresh, PARAMETERS, ledger, datetime.now(UTC)) is None, "another release"


def test_the_same_images_teach_once(asked):
    ledger, cause = asked.project.ledger, cause_of(asked)
    dataset = asked.project.version
    assert tried_before(dataset, cause, ledger) is None
    record(cause, Outcome.NOT_HELPED, "no better", PARAMETERS, ledger, {"dataset_id": dataset.id})
    assert tried_before(dataset, replace(cause, run="run-2"), ledger).outcome is Outcome.SAME


def test_labels_become_a_version_that_is_learned_from(asked):
    labelled = send_kept(asked)
    for identity, label in labelled:
        asked.log.add_label(identity, label, source="ada", client="")
    cause = cause_of(asked)
    gathered = gather_labels(asked.champion, asked.model, (0.8, 1.0), PARAMETERS.labels, asked.settings)
    assert (len(gathered.accepted), gathered.set_aside) == (60, ())
    paths = asked.project.paths
    images = usable(gathered.accepted, paths)
    source = lay_out(images, paths)
    assert lay_out(images, paths).folder == source.folder
    index = build_index(source, paths)
    assert index.images == len(images)
    version = extend_version(cause.dataset, index, (), PARAMETERS.extension, paths)
    assert (version.extends, version.evaluation_set_id) == (cause.dataset.id, cause.dataset.evaluation_set_id)
    recipe = recipe_of(cause, PARAMETERS, paths)
    assert recipe.epochs == PARAMETERS.policy.retrain_epochs
    assert recipe.ema == PARAMETERS.policy.retrain_ema
    assert recipe.weights == str(paths.model(asked.model.id) / "weights.safetensors")


def test_poisoned_labels_teach_nothing_and_are_listed(asked):
    for identity, _ in send_kept(asked):
        asked.log.add_label(identity, asked.model.classes[0], source="mallory", client="")
    asked.log.add_label("0" * 36, asked.model.classes[0], source="mallory", client="")
    gathered = gather_labels(asked.champion, asked.model, (0.5, 0.7), PARAMETERS.labels, asked.settings)
    assert gathered.accepted == ()
    reasons = {each.reason for each in gathered.set_aside}
    assert any("mallory" in reason for reason in reasons)
    assert any("on record" in reason for reason in reasons)
    (listing,) = (asked.project.paths.interim / "labels").glob("*.csv")
    assert listing.read_text(encoding="utf-8").count("mallory") >= 60


def test_what_is_lacking_is_asked_for_once(asked):
    send_kept(asked)
    assert ask_for_more(asked.champion, asked.model, 25, asked.settings) == 25
    assert ask_for_more(asked.champion, asked.model, 25, asked.settings) == 25
    assert ask_for_more(asked.champion, asked.model, 30, asked.settings) == 30


def test_what_became_of_it_is_said():
    gate = GateVerdict("dec-1", "model-b", "task-1", "eval-1", "evalset-1", "model-a", Verdict.FAIL, (), "It is worse.")
    assert end_of(gate, None)[0] is Outcome.NOT_HELPED
    passed = replace(gate, verdict=Verdict.PASS)
    stays = Release("dec-2", "model-b", "task-1", "b:1", False, "model-a", "model-a", "it failed on live traffic")
    assert end_of(passed, stays) == (
        Outcome.HELD_BACK,
        "model-b passed its gate, and the champion stays: it failed on live traffic",
    )
    assert end_of(passed, replace(stays, promoted=True, champion_id="model-b"))[0] is Outcome.HELPED


def test_every_end_is_a_decision(asked):
    ledger, cause = asked.project.ledger, cause_of(asked)
    for outcome in Outcome:
        record(replace(cause, run=outcome.name), outcome, "because", PARAMETERS, ledger)
    found = {each.evidence["outcome"]: each.verdict for each in ledger.decisions(kind=Kind.RETRAIN)}
    assert set(found) == {each.value for each in Outcome}
    assert found[Outcome.HELPED] is Verdict.PASS
    assert found[Outcome.WAITS] is Verdict.NOT_ENOUGH_EVIDENCE
    assert ledger.verify().verdict is Verdict.PASS


def test_a_rehearsal_of_digits_asks_for_another_margin_of_its_own_release_alone(watched):
    ledger, paths, version = watched.project.ledger, watched.project.paths, watched.project.version
    usual, photos = RetrainParameters(), replace(version, source="photos")
    digits = replace(version, source="digits")
    assert as_released(usual, cause_of(watched, cause="hand"), ledger) == usual
    champion = release_for_rehearsal(watched.champion, ledger, paths, policy_of(digits))
    rehearsed = as_released(usual, cause_of(watched, cause="hand"), ledger)
    assert (rehearsed.gate.margin, usual.gate.margin) == (0.05, 0.02)
    assert rehearsed.model_copy(update={"gate": usual.gate}) == usual
    release_for_rehearsal(champion, ledger, paths, policy_of(photos))
    assert as_released(usual, cause_of(watched, cause="hand"), ledger) == usual
    assert ledger.verify().verdict is Verdict.PASS


def test_digits_are_watched_in_small_windows_where_no_other_was_asked_for(watched):
    digits, photos = (replace(watched.project.version, source=name) for name in ("digits+labels", "photos"))
    usual, asked = RehearsalParameters(), RehearsalParameters(window_answers=300)
    assert fitted(usual, photos) == usual
    assert fitted(usual, digits).window_answers < usual.window_answers
    assert fitted(asked, digits) == asked
