"""The gate: a question is asked, its evidence gathered, judged by pure rules, and the verdict recorded.

A question that was answered keeps its answer. One whose evidence could not be gathered whole is recorded under what was
in the way, so that it can be asked again once that is mended.
"""

import logging

from flywheel.evaluation.gates import Inputs, gate_identity, gate_policy, judge
from flywheel.identity import digest, name_of
from flywheel.ledger import Champion, Ledger, LedgerError
from flywheel.ledger.entries import utc_now
from flywheel.ledger.ledger import Clock, gate_of
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.records import DatasetVersion, Evaluation, GateVerdict, Parity, as_dict
from tasks.gate_evidence import Inquiry, Question

logger = logging.getLogger(__name__)


def judge_model(
    challenger: Evaluation,
    version: DatasetVersion,
    champion: Champion | None,
    policy: GatePolicy,
    ledger: Ledger,
    paths: Paths,
    *,
    parity: Parity | None = None,
    clock: Clock = utc_now,
) -> GateVerdict:
    """The gate's verdict on a challenger, recorded in the ledger.

    The champion itself, judged again on the same evidence and policy, keeps the verdict that made it champion; so does
    any model that was judged before on the same evidence, and nothing is measured then. Where something could not be
    measured, the same trouble gives the same decision.
    """
    if champion is not None and champion.model_id == challenger.model_id:
        standing = _standing_verdict(challenger, champion, policy, ledger)
        if standing is not None:
            return standing
    champion_id = champion.model_id if champion else None
    anchor_id = ledger.anchor(version.task_id) if champion else None
    question = Question(challenger, version, champion_id, anchor_id, parity, policy)
    inquiry = Inquiry(question, ledger, paths)
    rivals = inquiry.measure_rivals()
    inputs = _inputs(question, rivals)
    known = _recorded(inputs, policy, ledger)
    if known is not None:
        return known
    evidence = inquiry.gather(rivals)
    inputs["problems"] = digest(evidence.problems) if evidence.problems else None
    recorded = ledger.record_gate(
        judge(evidence, policy, inputs),
        inputs=dict(inputs),
        policy=gate_policy(policy),
        evidence={"measured": as_dict(evidence)},
        clock=clock,
    )
    logger.info("gate %s on %s: %s. %s", recorded.id, recorded.model_id, recorded.verdict, recorded.reason)
    return recorded


def _standing_verdict(
    challenger: Evaluation, champion: Champion, policy: GatePolicy, ledger: Ledger
) -> GateVerdict | None:
    try:
        decision = ledger.gate_of_champion(champion)
    except LedgerError:  # promoted by a person
        return None
    same = decision.inputs["evaluation_id"] == challenger.id and decision.policy == gate_policy(policy)
    return gate_of(decision) if same else None


def _recorded(inputs: Inputs, policy: GatePolicy, ledger: Ledger) -> GateVerdict | None:
    """The same question, answered before on whole evidence: its answer stands, and nothing is measured."""
    try:
        return gate_of(ledger.decision(name_of("dec", gate_identity(inputs, policy))))
    except LedgerError:
        return None


def _inputs(question: Question, rivals: dict[str, Evaluation]) -> Inputs:
    """What the verdict rests on, by identity; the evidence itself by the hash of its per-image answers.

    `problems` is None for a question that finds all its evidence, else the hash of what was in the way.
    """
    challenger, parity = question.challenger, question.parity
    found: Inputs = {
        "task_id": question.version.task_id,
        "model_id": challenger.model_id,
        "dataset_id": challenger.dataset_id,
        "evaluation_id": challenger.id,
        "evaluation_set_id": challenger.evaluation_set_id,
        "evidence_sha256": challenger.correct_sha256,
        "champion_id": question.champion_id,
        "anchor_id": question.anchor_id,
        "bento_tag": parity.bento_tag if parity else None,
        "parity": "passed" if parity and parity.passed else None,
        "problems": None,
    }
    for role in ("champion", "anchor"):
        rival = rivals.get(role)
        found[f"{role}_evaluation_id"] = rival.id if rival else None
        found[f"{role}_evidence_sha256"] = rival.correct_sha256 if rival else None
    return found
