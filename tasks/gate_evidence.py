"""What a gate's verdict rests on, measured or looked up: each model's answers are read once, each model loaded once.

Whatever can't be measured is a reason in the evidence, and no crash: the verdict is then “not enough evidence”, and the
champion stays.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from flywheel.data.versions import open_arrays
from flywheel.evaluation.evaluate import evaluate, recorded_evaluation
from flywheel.evaluation.evidence import (
    Comparison,
    CostEvidence,
    DriftedEvidence,
    GateEvidence,
    LeakEvidence,
    ParityEvidence,
    RobustnessEvidence,
    SliceCounts,
    light,
)
from flywheel.evaluation.exposure import Exposure, exposure
from flywheel.evaluation.leakage import check_leaks
from flywheel.evaluation.pairing import Pairing, pair, paired_counts, slice_counts
from flywheel.evaluation.power import expected_disagreement
from flywheel.evaluation.record import EvaluationError, Predictions, check_predictions, read_predictions
from flywheel.ledger import Ledger
from flywheel.paths import Paths
from flywheel.policies import GatePolicy, RetrainingGatePolicy
from flywheel.reasons import reason_of
from flywheel.records import DatasetVersion, Evaluation, Interval, Parity, ProbeResult, Side
from tasks.gate_history import drifted_judgements, frozen_ids, known_answers, known_robustness, past_uses

if TYPE_CHECKING:
    from flywheel.model.inference import Classifier

logger = logging.getLogger(__name__)

T = TypeVar("T")
Chosen = NDArray[np.bool_] | None  # a mask over the frozen images in the order of their ids
COST_IMAGES = 64  # of the frozen side, that both models are timed on, one at a time
COST_SECONDS = 10.0  # of slow models, half of it where that is enough


@dataclass(frozen=True)
class Question:
    """May this challenger take the champion's place?"""

    challenger: Evaluation
    version: DatasetVersion
    champion_id: str | None
    anchor_id: str | None
    parity: Parity | None
    policy: GatePolicy

    @property
    def rivals(self) -> dict[str, str]:
        """Role → model id. A task's first model meets none, nor does the champion itself."""
        if self.champion_id in (None, self.challenger.model_id):
            return {}
        roles = {"champion": self.champion_id, "anchor": self.anchor_id}
        return {role: model_id for role, model_id in roles.items() if model_id}


@dataclass
class Inquiry:
    """The search for one question's evidence: what is found, and in `problems` what could not be found, and why."""

    question: Question
    ledger: Ledger
    paths: Paths
    problems: dict[str, str] = field(default_factory=dict, init=False)  # by part of the evidence
    _models: dict[str, "Classifier"] = field(default_factory=dict, init=False)
    _answers: dict[str, Predictions] = field(default_factory=dict, init=False)  # by evaluation
    _pairings: dict[str, Pairing] = field(default_factory=dict, init=False)  # by the rival's evaluation

    def find(self, measure: Callable[[], T], *parts: str) -> T | None:
        """What is measured for these parts of the evidence; None, with the reason kept, where it can't be."""
        try:
            return measure()
        except Exception as error:  # noqa: BLE001 - whatever is wrong is a reason in the evidence, not a crash
            who, why = self.question.challenger.model_id, reason_of(error)
            logger.warning("%s can't be judged on its %s: %s", who, " and ".join(parts), why)
            for part in parts:
                self.problems.setdefault(part, why)
            return None

    def measure_rivals(self) -> dict[str, Evaluation]:
        """Role → evaluation of the champion and the anchor on the challenger's frozen set: from its record, or now."""
        rivals = self.question.rivals
        found: dict[str, Evaluation] = {}
        for model_id in dict.fromkeys(rivals.values()):
            roles = [role for role, name in rivals.items() if name == model_id]
            measured = self.find(partial(self._evaluation, model_id), *roles)
            if measured is not None:
                found |= dict.fromkeys(roles, measured)
        return found

    def gather(self, rivals: dict[str, Evaluation]) -> GateEvidence:
        """All parts; `rivals` are those that could be measured."""
        asked = self.question
        parts: dict[str, object] = {
            "ece": self.find(self._ece, "ece"),
            "leaks": self.find(self._leaks, "leaks"),
            "parity": self.find(self._parity, "parity"),
        }
        if asked.rivals:
            parts |= self._against(rivals)
        if isinstance(asked.policy, RetrainingGatePolicy):
            parts["drifted"] = self.find(self._drifted, "drifted")
        return GateEvidence(
            task_id=asked.version.task_id,
            challenger=light(asked.challenger),
            champion_id=asked.champion_id,
            anchor_id=asked.anchor_id,
            problems=self.problems or None,
            **parts,  # type: ignore[arg-type]
        )

    def _against(self, rivals: dict[str, Evaluation]) -> dict[str, object]:
        """The parts that need a champion."""
        champion = rivals.get("champion")
        exposed = self.find(partial(self._exposure, champion), "uses")
        chosen = exposed.chosen if exposed else None
        parts: dict[str, object] = {
            role: self.find(partial(self._compare, rival, chosen), role) for role, rival in rivals.items()
        }
        parts["uses"] = exposed.uses if exposed else None
        parts["set_aside"] = exposed.set_aside if exposed else ()
        if champion is not None:
            parts["slices"] = self.find(partial(self._slices, champion, chosen), "slices") or ()
            parts["robustness"] = self.find(partial(self._robustness, champion), "robustness")
            parts["cost"] = self.find(partial(self._cost, champion), "cost")
        else:
            self.problems |= dict.fromkeys(("slices", "robustness", "cost"), self.problems["champion"])
        return parts

    def _model(self, model_id: str) -> "Classifier":
        from flywheel.model.inference import load_model

        if model_id not in self._models:
            self._models[model_id] = load_model(self.paths.model(model_id))
        return self._models[model_id]

    def _evaluation(self, model_id: str) -> Evaluation:
        """From its record, if that holds the answers which the ledger says that the model gave; else measured now."""
        version = self.question.version
        recorded = recorded_evaluation(model_id, version, self.paths)
        if recorded is None:
            return evaluate(self._model(model_id), version, self.paths)
        known = known_answers(self.ledger, model_id, recorded.id)
        if not known or recorded.correct_sha256 in known:
            return recorded
        told = f"its answers are {recorded.correct_sha256[:12]}, a gate judged {', '.join(each[:12] for each in known)}"
        return evaluate(self._model(model_id), version, self.paths, distrusted=told)

    def _answers_of(self, evaluation: Evaluation) -> Predictions:
        if evaluation.id not in self._answers:
            check_predictions(evaluation.folder, evaluation)
            self._answers[evaluation.id] = read_predictions(evaluation.folder)
        return self._answers[evaluation.id]

    def _pairing_with(self, rival: Evaluation) -> Pairing:
        if rival.id not in self._pairings:
            mine, theirs = self._answers_of(self.question.challenger), self._answers_of(rival)
            self._pairings[rival.id] = pair(mine, theirs)
        return self._pairings[rival.id]

    def _compare(self, rival: Evaluation, chosen: Chosen) -> Comparison:
        return Comparison(rival.model_id, rival.id, paired_counts(self._pairing_with(rival), chosen))

    def _exposure(self, champion: Evaluation | None) -> Exposure:
        asked, task_id = self.question, self.question.version.task_id
        set_id = asked.challenger.evaluation_set_id
        return exposure(
            past_uses(self.ledger, task_id, (set_id, asked.challenger.model_id, asked.champion_id)),
            set_id,
            self._answers_of(asked.challenger).sorted().ids.tolist(),
            frozen_ids(self.ledger, task_id, self.paths),
            asked.policy,
            expected_disagreement(asked.policy, champion.top1.value if champion else None),
        )

    def _drifted(self) -> DriftedEvidence:
        """Both models are asked now, or by a record whose hash fits: neither ever learned from these images."""
        asked = self.question
        if asked.champion_id is None or not asked.version.drifted_set_id:
            raise EvaluationError("there is no champion, or no image that was labelled under drift")
        mine, theirs = (
            evaluate(self._model(model_id), asked.version, self.paths, side=Side.DRIFTED)
            for model_id in (asked.challenger.model_id, asked.champion_id)
        )
        for judged in (mine, theirs):
            check_predictions(judged.folder, judged)
        pairing = pair(read_predictions(mine.folder), read_predictions(theirs.folder))
        comparison = Comparison(theirs.model_id, theirs.id, paired_counts(pairing, None))
        earlier = drifted_judgements(self.ledger, asked.champion_id, asked.challenger.model_id)
        return DriftedEvidence(asked.version.drifted_set_id, comparison, earlier)

    def _slices(self, champion: Evaluation, chosen: Chosen) -> tuple[SliceCounts, ...]:
        from flywheel.evaluation.slices import slices_of

        slices = slices_of(open_arrays(self.question.version), self.question.version.classes)
        return slice_counts(slices, self._pairing_with(champion), chosen)

    def _robustness(self, champion: Evaluation) -> RobustnessEvidence:
        from flywheel.evaluation.robustness import corrupted_accuracy, evaluate_robustness, robustness_difference

        version = self.question.version
        mine, theirs = (
            evaluate_robustness(self._model(model_id), version, self.paths)
            for model_id in (self.question.challenger.model_id, champion.model_id)
        )
        known = known_robustness(self.ledger, champion.model_id, version.evaluation_set_id)
        if known and (theirs.images, corrupted_accuracy(theirs).value) not in known:
            logger.warning("%s: no gate saw this robustness on record; it is measured again", champion.model_id)
            theirs = evaluate_robustness(self._model(champion.model_id), version, self.paths, again=True)
        return RobustnessEvidence(
            images=mine.images,
            corruptions=len(mine.conditions),
            challenger=corrupted_accuracy(mine),
            champion=corrupted_accuracy(theirs),
            difference=robustness_difference(mine, theirs),
        )

    def _cost(self, champion: Evaluation) -> CostEvidence:
        from flywheel.evaluation.cost import FEWEST_ROUNDS, compare_cost

        first, second = self._model(self.question.challenger.model_id), self._model(champion.model_id)
        arrays = open_arrays(self.question.version)
        images = np.asarray(arrays.images[arrays.side(Side.FROZEN)[:COST_IMAGES]])
        cost = compare_cost(first, second, images, seconds=COST_SECONDS, batches=False)
        if cost.single.ratio is None or cost.single.challenger_ms is None:
            raise TimeoutError(f"fewer than {FEWEST_ROUNDS} rounds of timing that make sense fitted into the time")
        return CostEvidence(cost.single.ratio, cost.bytes_ratio, cost.single.challenger_ms)

    def _ece(self) -> Interval:
        from flywheel.evaluation.calibration_error import ece_interval

        answers = self._answers_of(self.question.challenger)
        return ece_interval(answers.logits, answers.labels)

    def _leaks(self) -> LeakEvidence:
        """Of the challenger, of the models that it is compared with, and of what each began as."""
        models = (self.question.challenger.model_id, *self.question.rivals.values())
        check = check_leaks(self.question.version, models, self.paths)
        by_version = {each.dataset_id: each.leaks for each in check.models}.values()
        found = sum(leaks.found for leaks in by_version)
        if check.problems and not found:
            raise EvaluationError(" ".join(check.problems))
        return LeakEvidence(
            images_checked=check.images,
            exact=sum(leaks.exact for leaks in by_version),
            near=sum(leaks.near for leaks in by_version),
            examples=(check.summary,) if found else (),
        )

    def _parity(self) -> ParityEvidence:
        parity = self.question.parity
        if parity is None:
            raise EvaluationError("it was not served")
        failed = [f"{probe.name}: {_told(probe)}" for probe in parity.failed]
        return ParityEvidence(
            bento_tag=parity.bento_tag,
            probes=len(parity.probes),
            failed=(parity.problem, *failed) if parity.problem else tuple(failed),
            largest=parity.largest,
            tolerance=parity.tolerance,
        )


def _told(probe: ProbeResult) -> str:
    return probe.problem or f"logits {probe.difference:.2g} apart"
