"""The gate: everything that a verdict rests on is measured or looked up, judged by pure rules, and recorded.

Whatever can't be measured is a reason in the evidence, and no crash: the verdict is then “not enough evidence”, and the
champion stays.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flywheel.data.versions import open_arrays
from flywheel.evaluation.evidence import (
    Comparison,
    CostEvidence,
    GateEvidence,
    LeakEvidence,
    ParityEvidence,
    RobustnessEvidence,
    SliceCounts,
    light,
    paired_counts,
)
from flywheel.evaluation.exposure import Exposure, exposure
from flywheel.evaluation.gates import Inputs, gate_identity, gate_policy, judge
from flywheel.evaluation.leakage import check_leaks
from flywheel.evaluation.power import expected_disagreement
from flywheel.evaluation.record import EvaluationError, Predictions, read_predictions
from flywheel.identity import name_of
from flywheel.ledger import Champion, Ledger, LedgerError
from flywheel.ledger.entries import utc_now
from flywheel.ledger.ledger import Clock, gate_of
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.records import (
    DatasetVersion,
    Evaluation,
    GateVerdict,
    Interval,
    Parity,
    ProbeResult,
    Side,
    as_dict,
)
from tasks.evaluation import evaluation_of
from tasks.gate_history import frozen_ids, past_uses

logger = logging.getLogger(__name__)

T = TypeVar("T")
COST_IMAGES = 64  # of the frozen side, that both models are timed on


def judge_model(
    challenger: Evaluation,
    version: DatasetVersion,
    champion: Champion | None,
    policy: GatePolicy,
    ledger: Ledger,
    paths: Paths,
    *,
    parity: Parity | None = None,
    device: str = "cpu",
    clock: Clock = utc_now,
) -> GateVerdict:
    """The gate's verdict on a challenger, recorded in the ledger.

    The champion itself, judged again on the same evidence and policy, keeps the verdict that made it champion; so does
    any model that was judged before on the same evidence.
    """
    if champion is not None and champion.model_id == challenger.model_id:
        standing = _standing_verdict(challenger, champion, policy, ledger)
        if standing is not None:
            return standing
    return _Judgement(challenger, version, champion, policy, ledger, paths, parity, device).decide(clock)


def _standing_verdict(
    challenger: Evaluation, champion: Champion, policy: GatePolicy, ledger: Ledger
) -> GateVerdict | None:
    try:
        decision = ledger.gate_of_champion(champion)
    except LedgerError:  # promoted by a person
        return None
    same = decision.inputs["evaluation_id"] == challenger.id and decision.policy == gate_policy(policy)
    return gate_of(decision) if same else None


class _Judgement:
    """One challenger's day in court: what is found, and what could not be found."""

    def __init__(
        self,
        challenger: Evaluation,
        version: DatasetVersion,
        champion: Champion | None,
        policy: GatePolicy,
        ledger: Ledger,
        paths: Paths,
        parity: Parity | None,
        device: str,
    ) -> None:
        self.challenger, self.version, self.policy = challenger, version, policy
        self.ledger, self.paths, self.parity, self.device = ledger, paths, parity, device
        self.champion_id = champion.model_id if champion else None
        self.meets = champion is not None and champion.model_id != challenger.model_id
        self.anchor_id = ledger.anchor(version.task_id) if champion else None
        self.problems: dict[str, str] = {}

    def decide(self, clock: Clock) -> GateVerdict:
        rivals = {"champion": self.champion_id, "anchor": self.anchor_id} if self.meets else {}
        measured = {role: self._rival(role, model) for role, model in rivals.items() if model}
        inputs = self._inputs(measured)
        known = self._recorded(inputs)
        if known is not None:
            return known
        evidence = self._evidence(measured)
        verdict = judge(evidence, self.policy, inputs)
        recorded = self.ledger.record_gate(
            verdict,
            inputs=dict(inputs),
            policy=gate_policy(self.policy),
            evidence={"measured": as_dict(evidence)},
            clock=clock,
        )
        logger.info("gate %s on %s: %s. %s", recorded.id, recorded.model_id, recorded.verdict, recorded.reason)
        return recorded

    def _recorded(self, inputs: Inputs) -> GateVerdict | None:
        """The same question, asked again: its answer stands, and nothing is measured."""
        try:
            return gate_of(self.ledger.decision(name_of("dec", gate_identity(inputs, self.policy))))
        except LedgerError:
            return None

    def _inputs(self, measured: dict[str, Evaluation | None]) -> Inputs:
        """What the verdict rests on, by identity; the evidence itself by the hash of its per-image answers."""
        found: Inputs = {
            "task_id": self.version.task_id,
            "model_id": self.challenger.model_id,
            "dataset_id": self.challenger.dataset_id,
            "evaluation_id": self.challenger.id,
            "evaluation_set_id": self.challenger.evaluation_set_id,
            "evidence_sha256": self.challenger.correct_sha256,
            "champion_id": self.champion_id,
            "anchor_id": self.anchor_id,
            "bento_tag": self.parity.bento_tag if self.parity else None,
            "parity": "passed" if self.parity and self.parity.passed else None,
        }
        for role in ("champion", "anchor"):
            rival = measured.get(role)
            found[f"{role}_evaluation_id"] = rival.id if rival else None
            found[f"{role}_evidence_sha256"] = rival.correct_sha256 if rival else None
        return found

    def _evidence(self, measured: dict[str, Evaluation | None]) -> GateEvidence:
        mine = self._try("ece", lambda: read_predictions(self.challenger.folder))
        parts: dict[str, object] = {
            "ece": self._try("ece", lambda: _ece(mine)),
            "leaks": self._try("leaks", self._leaks),
            "parity": self._try("parity", self._parity),
        }
        if self.meets:
            parts |= self._against(measured, mine)
        return GateEvidence(
            task_id=self.version.task_id,
            challenger=light(self.challenger),
            champion_id=self.champion_id,
            anchor_id=self.anchor_id,
            problems=self.problems or None,
            **parts,  # type: ignore[arg-type]
        )

    def _against(self, measured: dict[str, Evaluation | None], mine: Predictions | None) -> dict[str, object]:
        """The parts that need a champion."""
        exposed = self._try("uses", lambda: self._exposure(mine, measured.get("champion")))
        chosen = exposed.chosen if exposed else None
        parts: dict[str, object] = {
            role: self._try(role, lambda rival=rival: self._compare(rival, mine, chosen))
            for role, rival in measured.items()
            if rival is not None
        }
        champion = measured.get("champion")
        parts["uses"] = exposed.uses if exposed else None
        parts["set_aside"] = exposed.set_aside if exposed else ()
        if champion is not None:
            parts["slices"] = self._try("slices", lambda: self._slices(champion, mine, chosen)) or ()
            parts["robustness"] = self._try("robustness", lambda: self._robustness(champion))
            parts["cost"] = self._try("cost", lambda: self._cost(champion))
        else:
            why = self.problems.get("champion", "there is no champion's evaluation")
            self.problems |= dict.fromkeys(("slices", "robustness", "cost"), why)
        return parts

    def _try(self, part: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except Exception as error:  # noqa: BLE001 - whatever is wrong is a reason in the evidence, not a crash
            logger.warning("%s can't be judged on its %s: %s", self.challenger.model_id, part, error)
            self.problems.setdefault(part, str(error).rstrip(".") or type(error).__name__)
            return None

    def _rival(self, role: str, model_id: str) -> Evaluation | None:
        """The champion, or the anchor, measured on the challenger's frozen set: from its record, or now."""

        return self._try(role, lambda: evaluation_of(model_id, self.version, self.paths, self.device))

    def _compare(self, rival: Evaluation, mine: Predictions | None, chosen: NDArray[np.bool_] | None) -> Comparison:
        theirs = read_predictions(rival.folder)
        return Comparison(rival.model_id, rival.id, paired_counts(_given(mine), theirs, chosen))

    def _exposure(self, mine: Predictions | None, champion: Evaluation | None) -> Exposure:
        set_id, task_id = self.challenger.evaluation_set_id, self.version.task_id
        return exposure(
            past_uses(self.ledger, task_id, (set_id, self.challenger.model_id, self.champion_id)),
            set_id,
            _given(mine).sorted().ids.tolist(),
            frozen_ids(self.ledger, task_id, self.paths),
            self.policy,
            expected_disagreement(self.policy, champion.top1.value if champion else None),
        )

    def _slices(
        self, champion: Evaluation, mine: Predictions | None, chosen: NDArray[np.bool_] | None
    ) -> tuple[SliceCounts, ...]:
        from flywheel.evaluation.slices import slices_of

        first, second = _given(mine).sorted(), read_predictions(champion.folder).sorted()
        found = []
        for part in slices_of(open_arrays(self.version), self.version.classes).slices:
            mask = np.zeros(len(first.ids), bool)
            mask[part.rows] = True
            mask &= True if chosen is None else chosen
            found.append(SliceCounts(f"{part.kind} {part.name}", paired_counts(first, second, mask)))
        return tuple(found)

    def _robustness(self, champion: Evaluation) -> RobustnessEvidence:
        from flywheel.evaluation.robustness import corrupted_accuracy, evaluate_robustness, robustness_difference
        from flywheel.model.inference import load_model

        mine, theirs = (
            evaluate_robustness(load_model(self.paths.model(model), self.device), self.version, self.paths)
            for model in (self.challenger.model_id, champion.model_id)
        )
        return RobustnessEvidence(
            images=mine.images,
            corruptions=len(mine.conditions),
            challenger=corrupted_accuracy(mine),
            champion=corrupted_accuracy(theirs),
            difference=robustness_difference(mine, theirs),
        )

    def _cost(self, champion: Evaluation) -> CostEvidence:
        from flywheel.evaluation.cost import compare_cost
        from flywheel.model.inference import load_model

        first, second = (load_model(self.paths.model(model)) for model in (self.challenger.model_id, champion.model_id))
        arrays = open_arrays(self.version)
        images = np.asarray(arrays.images[arrays.side(Side.FROZEN)[:COST_IMAGES]])
        cost = compare_cost(first, second, images)
        if cost.single.ratio is None or cost.single.challenger_ms is None:
            raise TimeoutError(f"only {cost.single.rounds} rounds of timing fitted into the time")
        return CostEvidence(cost.single.ratio, cost.bytes_ratio, cost.single.challenger_ms)

    def _leaks(self) -> LeakEvidence:
        """Of the challenger, of the models that it is compared with, and of what each began as."""
        rivals = (self.champion_id, self.anchor_id) if self.meets else ()
        check = check_leaks(self.version, [name for name in (self.challenger.model_id, *rivals) if name], self.paths)
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
        parity = self.parity
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


def _ece(mine: Predictions | None) -> Interval:
    from flywheel.evaluation.calibration_error import ece_interval

    answers = _given(mine)
    return ece_interval(answers.logits, answers.labels)


def _given(mine: Predictions | None) -> Predictions:
    if mine is None:
        raise EvaluationError("the challenger's own answers can't be read")
    return mine
