"""Every way in which a gate can't be sure: no promotion, a reason that a person can act on, and another try once it is
mended."""

import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.commands.replaying import replay
from flywheel.data.folders import write_json
from flywheel.data.versions import IMAGES, ROWS, open_arrays
from flywheel.data.versions import MANIFEST as VERSION_MANIFEST
from flywheel.evaluation import cost
from flywheel.evaluation.evaluate import evaluate
from flywheel.evaluation.metrics import MetricsError
from flywheel.evaluation.record import EvaluationError, Predictions, read_predictions, write_record
from flywheel.evaluation.robustness import MANIFEST as ROBUSTNESS
from flywheel.evaluation.robustness import corrupted_accuracy, recorded_robustness, write_robustness
from flywheel.identity import digest_of_file
from flywheel.ledger import Decision, Kind
from flywheel.model.folder import MANIFEST, WEIGHTS
from flywheel.model.inference import load_model
from flywheel.records import PromotesAs, Side, Verdict
from tasks.evaluation import evaluate_model
from tasks.gate_history import past_uses
from tests.tasks.judged_project import NOON, OPEN, Project

UNKNOWN, FAIL = Verdict.NOT_ENOUGH_EVIDENCE, Verdict.FAIL


@pytest.fixture
def defended(project) -> Project:
    """The weak model is champion."""
    verdict = project.judge(evaluate_model(project.weak, project.version, project.paths))
    assert project.promote(verdict).promoted
    return project


def strong(project: Project):
    return evaluate_model(project.strong, project.version, project.paths)


def reason(verdict, rule: str) -> str:
    return next(found.reason for found in verdict.rules if found.rule == rule)


def stays(project: Project, verdict, expected: Verdict = UNKNOWN) -> None:
    assert verdict.verdict is expected
    assert verdict.promotes_as is None
    print(f"{verdict.verdict}: {verdict.reason}")  # `pytest -s` shows what a person reads
    assert not project.promote(verdict).promoted
    assert project.ledger.champion().model_id == project.weak.id


def test_a_missing_report(defended):
    evaluation = strong(defended)
    shutil.rmtree(evaluation.folder)
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    for rule in ("calibration", "champion", "slices", "robustness"):
        assert f"{evaluation.id}" in reason(verdict, rule)
        assert "valuate" in reason(verdict, rule)


def test_answers_that_are_not_those_of_the_report(defended):
    evaluation = strong(defended)
    answers = read_predictions(evaluation.folder)
    shutil.rmtree(evaluation.folder)
    write_record(evaluation, replace(answers, labels=answers.logits.argmax(axis=1)))  # all right, of a sudden
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    assert f"SHA-256 {evaluation.correct_sha256[:12]} expected" in reason(verdict, "champion")


def test_logits_that_are_nan_at_the_evaluation_and_at_the_gate(defended, monkeypatch):
    evaluation = strong(defended)
    answers = read_predictions(evaluation.folder)
    shutil.rmtree(evaluation.folder)
    nan = write_record(evaluation, Predictions(answers.ids, answers.labels, np.full_like(answers.logits, np.nan)))
    verdict = defended.judge(nan)
    stays(defended, verdict)
    assert "Logits that are NaN or infinite are no answers" in reason(verdict, "champion")
    assert "images have logits that are NaN or infinite" in reason(verdict, "calibration")

    shutil.rmtree(nan.folder)
    model = load_model(defended.paths.model(defended.strong.id))
    model.network.load_state_dict({name: tensor * np.nan for name, tensor in model.network.state_dict().items()})
    with pytest.raises(MetricsError, match="Train again") as told:
        evaluate(model, defended.version, defended.paths)
    print(told.value)


def test_an_empty_frozen_side(defended, monkeypatch):
    evaluation, arrays = strong(defended), open_arrays(defended.version)
    empty = replace(arrays, sides=np.full(len(arrays.sides), str(Side.TRAIN)))
    shutil.rmtree(defended.paths.reports)
    monkeypatch.setattr("flywheel.evaluation.evaluate.open_arrays", lambda _: empty)
    with pytest.raises(EvaluationError, match="frozen side is empty") as told:
        evaluate(load_model(defended.paths.model(defended.strong.id)), defended.version, defended.paths)
    print(told.value)
    none = replace(evaluation, images=0, classes=())
    verdict = defended.judge(none)
    stays(defended, verdict, FAIL)
    assert "label 10 more" in reason(verdict, "evaluation set")
    assert "frozen side is empty" in reason(verdict, "champion")


def test_an_evaluator_that_crashes(defended):
    evaluation = strong(defended)
    shutil.rmtree(defended.paths.report(defended.ledger.decisions(kind=Kind.GATE)[0].inputs["evaluation_id"]))
    images = defended.version.folder / IMAGES
    shutil.copytree(defended.version.folder, whole := defended.home / "whole")
    os.truncate(images, images.stat().st_size // 2)
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    assert "The champion" in reason(verdict, "champion")
    shutil.copyfile(whole / IMAGES, images)
    assert defended.judge(evaluation).verdict is Verdict.PASS


def test_a_champion_that_can_not_be_loaded(defended):
    evaluation = strong(defended)
    (defended.paths.model(defended.weak.id) / WEIGHTS).write_bytes(b"rust")
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    for rule in ("robustness", "latency", "size"):
        assert f"{WEIGHTS}: SHA-256" in reason(verdict, rule)


def test_a_champion_whose_folder_is_gone_is_told_once_with_all_that_it_keeps_from_being_judged(defended):
    evaluation = strong(defended)
    champion = evaluate_model(defended.weak, defended.version, defended.paths)
    shutil.rmtree(champion.folder)
    folder = defended.paths.model(defended.weak.id)
    shutil.rmtree(folder)
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    told = "Leaks, champion, slices, robustness, latency and size can't be judged: "
    assert verdict.reason.startswith(told)
    assert verdict.reason.count(str(folder)) == 1
    assert verdict.reason.count("Run 'make train'") == 1
    for rule in ("leaks", "champion", "slices", "robustness", "latency", "size"):
        assert str(folder) in reason(verdict, rule), "each rule by itself still says why"


def test_a_champions_damaged_manifest_and_the_same_question_once_it_is_mended(defended):
    evaluation, manifest = strong(defended), defended.paths.model(defended.weak.id) / MANIFEST
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:100])
    troubled = defended.judge(evaluation)
    stays(defended, troubled)
    for rule in ("leaks", "robustness", "latency", "size"):
        assert MANIFEST in reason(troubled, rule)
    assert defended.judge(evaluation) == troubled  # the same trouble is the same decision
    assert len(defended.ledger.decisions(kind=Kind.GATE)) == 2

    manifest.write_bytes(whole)
    mended = defended.judge(evaluation)
    assert (mended.verdict, mended.promotes_as) == (Verdict.PASS, PromotesAs.SUPERIOR)
    assert defended.judge(evaluation) == mended
    decisions = defended.ledger.decisions(kind=Kind.GATE)
    assert [len(each.inputs["problems"] or "") for each in decisions] == [0, 64, 0]
    assert all(each.same_bytes for each in replay(decisions, None))
    assert len(defended.ledger.evaluation_set_uses(defended.version.evaluation_set_id)) == 2  # no further use
    manifest.write_bytes(whole[:100])
    assert defended.judge(evaluation) == mended  # what was decided on whole evidence stands
    assert defended.promote(mended).promoted


def test_a_missing_record_of_robustness_is_measured_again_and_where_it_can_not_be_nothing_is_known(defended):
    evaluation = strong(defended)
    first = defended.judge(evaluation, OPEN.model_copy(update={"margin": 0.4}))
    assert first.verdict is Verdict.PASS
    (evaluation.folder / ROBUSTNESS).unlink()
    (defended.version.folder / IMAGES).unlink()
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    assert IMAGES in reason(verdict, "robustness")


def test_a_cost_that_can_not_be_measured(defended, monkeypatch):
    monkeypatch.setattr(cost, "compare_cost", partial(without_time, cost.compare_cost))
    evaluation = strong(defended)
    verdict = defended.judge(evaluation)
    stays(defended, verdict)
    for rule in ("latency", "size"):
        assert "fewer than 6 rounds of timing that make sense fitted into the time" in reason(verdict, rule)
    assert defended.judge(evaluation) == verdict
    monkeypatch.undo()
    assert defended.judge(evaluation).verdict is Verdict.PASS


def without_time(compare, *models, seconds, **more):
    return compare(*models, seconds=0.0, **more)


def test_a_bento_that_was_not_compared(defended):
    verdict = defended.judge(strong(defended), served=False)
    stays(defended, verdict)
    assert reason(verdict, "serving parity").endswith("it was not served.")


def test_a_champion_that_learned_from_an_evaluation_image(defended):
    """A version that is older than the frozen set may hold one of its images on its training side."""
    paths, older = defended.paths, "ds-older"
    folder = paths.dataset(older)
    shutil.copytree(paths.dataset(defended.version.id), folder)
    rows = pq.read_table(folder / ROWS)
    frozen = rows.filter(pa.compute.field("side") == str(Side.FROZEN)).slice(0, 1)
    place = frozen.schema.get_field_index("side")
    leaked = frozen.set_column(place, frozen.schema.field(place), pa.array([str(Side.TRAIN)], frozen["side"].type))
    pq.write_table(pa.concat_tables([rows, leaked]), folder / ROWS)
    rewrite(folder / VERSION_MANIFEST, lambda found: found.update(id=older))
    file = {"bytes": (folder / ROWS).stat().st_size, "sha256": digest_of_file(folder / ROWS)}
    rewrite(folder / VERSION_MANIFEST, lambda found: found["files"].update({ROWS: file}))
    rewrite(paths.model(defended.weak.id) / MANIFEST, lambda found: found["model"].update(dataset_id=older))
    verdict = defended.judge(strong(defended))
    stays(defended, verdict, FAIL)
    told, images = reason(verdict, "leaks"), len(open_arrays(defended.version).side(Side.FROZEN))
    assert told.startswith(f"{defended.weak.id} learned from 1 of {images} evaluation images (1 the same): ")
    assert told.count("1 of ") == 1, "the count is told once"
    assert "near" not in told, "of a kind that there is none of nothing is said"


def rewrite(path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    write_json(path, document)


class Asked:
    """A ledger with one question, judged in trouble and then again."""

    def __init__(self, *measured: dict) -> None:
        self.measured = measured

    def decisions(self, *, kind: Kind, task_id: str) -> list[Decision]:
        inputs = {"evaluation_set_id": "evalset-2", "model_id": "model-b", "champion_id": "model-a"}
        return [
            Decision(
                f"dec-{number}", kind, task_id, inputs, {}, {"measured": each, "gate": {}}, UNKNOWN, "",
                NOON + timedelta(days=number), "",
            )
            for number, each in reversed(list(enumerate(self.measured)))
        ]  # fmt: skip


def test_what_a_judgement_in_trouble_could_not_tell_is_read_from_the_next():
    """Else a disk error at the first gate on new images would cost their budget."""
    troubled, mended = {"uses": None, "set_aside": []}, {"uses": [], "set_aside": ["evalset-1"]}
    asked = ("evalset-2", "model-c", "model-a")
    assert past_uses(Asked(troubled, mended), "task-1", asked)[0].set_aside == ("evalset-1",)
    assert past_uses(Asked(troubled), "task-1", asked)[0].set_aside == ()


def test_a_champions_record_that_is_another_models_is_measured_again(defended):
    """Whole in itself: only the ledger knows which answers were the champion's."""
    evaluation = strong(defended)
    weak = evaluate_model(defended.weak, defended.version, defended.paths)
    honest = weak.correct_sha256
    others = read_predictions(evaluation.folder)
    shutil.rmtree(weak.folder)
    write_record(replace(evaluation, id=weak.id, folder=weak.folder, model_id=weak.model_id), others)
    verdict = defended.judge(evaluation)
    found = evaluate_model(defended.weak, defended.version, defended.paths)
    assert found.correct_sha256 == honest
    assert found.top1 == weak.top1
    assert "a gate judged" in found.remade
    evidence = defended.ledger.decision(verdict.id).evidence["measured"]
    assert evidence["champion"]["counts"]["only_challenger"] > 0, "the strong model against the weak one"


def test_a_champions_robustness_that_no_gate_saw_is_measured_again(defended, caplog):
    defended.judge(strong(defended))
    weak = evaluate_model(defended.weak, defended.version, defended.paths)
    file = weak.folder / ROBUSTNESS
    honest = file.read_text()
    before = recorded_robustness(weak.folder, weak.model_id)
    nothing = tuple(replace(each, right=0, outcomes="0" * len(each.outcomes)) for each in before.conditions)
    write_robustness(weak.folder, replace(before, conditions=nothing))
    assert file.read_text() != honest
    defended.judge(strong(defended), OPEN.model_copy(update={"margin": 0.4}))
    assert corrupted_accuracy(recorded_robustness(weak.folder, weak.model_id)) == corrupted_accuracy(before)
    assert "no gate saw this robustness" in caplog.text
