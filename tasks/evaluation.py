"""Measure a model and its task's champion on the frozen set, and judge one against the other."""

import logging
from pathlib import Path

from flywheel.evaluation.evaluate import evaluate, recorded_evaluation
from flywheel.evaluation.gates import gate_evidence, gate_inputs, gate_policy, judge
from flywheel.ledger import Champion, Ledger
from flywheel.ledger.entries import utc_now
from flywheel.ledger.ledger import Clock, gate_of
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.progress import Progress, silent
from flywheel.records import DatasetVersion, Evaluation, GateVerdict, TrainedModel

logger = logging.getLogger(__name__)


def evaluate_model(
    model: TrainedModel, version: DatasetVersion, paths: Paths, device: str = "cpu", progress: Progress = silent
) -> Evaluation:
    """The model measured on the version's frozen set; a valid record of it is returned without loading the model."""
    recorded = recorded_evaluation(model.id, version, paths)
    return recorded or _evaluate_folder(model.folder, version, paths, device, progress)


def champion_evaluation(
    champion: Champion, version: DatasetVersion, paths: Paths, device: str = "cpu", progress: Progress = silent
) -> Evaluation:
    """The champion measured on the challenger's frozen set: from its record, or now, loaded by its id."""
    recorded = recorded_evaluation(champion.model_id, version, paths)
    return recorded or _evaluate_folder(paths.model(champion.model_id), version, paths, device, progress)


def judge_model(
    challenger: Evaluation,
    version: DatasetVersion,
    champion: Champion | None,
    policy: GatePolicy,
    ledger: Ledger,
    paths: Paths,
    *,
    device: str = "cpu",
    clock: Clock = utc_now,
) -> GateVerdict:
    """The gate's verdict on a challenger, recorded in the ledger.

    A champion that can't be loaded or measured makes the verdict “not enough evidence”: nothing is promoted over it.
    The champion itself, judged again on the same evidence and policy, keeps the verdict that made it champion.
    """
    if champion is not None and champion.model_id == challenger.model_id:
        standing = _standing_verdict(challenger, champion, policy, ledger)
        if standing is not None:
            return standing
    rival, problem = _rival(challenger, champion, version, paths, device)
    champion_id = champion.model_id if champion else None
    verdict = judge(
        challenger, rival, policy, task_id=version.task_id, champion_id=champion_id, champion_problem=problem
    )
    recorded = ledger.record_gate(
        verdict,
        inputs=dict(gate_inputs(challenger, rival, version.task_id, champion_id)),
        policy=gate_policy(policy),
        evidence=gate_evidence(challenger, rival),
        clock=clock,
    )
    logger.info("gate %s on %s: %s. %s", recorded.id, recorded.model_id, recorded.verdict, recorded.reason)
    return recorded


def _standing_verdict(
    challenger: Evaluation, champion: Champion, policy: GatePolicy, ledger: Ledger
) -> GateVerdict | None:
    decision = ledger.gate_of_champion(champion)
    same = decision.inputs["evaluation_id"] == challenger.id and decision.policy == gate_policy(policy)
    return gate_of(decision) if same else None


def _rival(
    challenger: Evaluation, champion: Champion | None, version: DatasetVersion, paths: Paths, device: str
) -> tuple[Evaluation | None, str]:
    """The champion's evaluation, or why there is none."""
    if champion is None:
        return None, ""
    if champion.model_id == challenger.model_id:
        return challenger, ""
    try:
        return champion_evaluation(champion, version, paths, device), ""
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the old model is a reason, not a crash
        logger.warning("The champion %s can't be evaluated: %s", champion.model_id, error)
        return None, str(error).rstrip(".") or type(error).__name__


def _evaluate_folder(
    folder: Path, version: DatasetVersion, paths: Paths, device: str, progress: Progress
) -> Evaluation:
    from flywheel.model.inference import load_model

    return evaluate(load_model(folder, device), version, paths, progress=progress)
