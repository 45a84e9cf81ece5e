"""The page of a gate's verdict, written from the ledger's decision and the records that it names."""

from pathlib import Path

from flywheel.data.originals import original_bytes
from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.record import EvaluationError, Predictions, read_predictions
from flywheel.evaluation.robustness import Robustness, recorded_robustness
from flywheel.identity import canonical_json
from flywheel.ledger import Decision
from flywheel.ledger.entries import utc_now
from flywheel.ledger.reading import gate_of
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.records import from_json
from flywheel.report.charts import CorruptedAccuracy
from flywheel.report.verdict import VerdictContents, write_verdict


def make_verdict_page(decision: Decision, paths: Paths) -> Path:
    """`verdict.html` of a gate decision. What is not on disk any more is left out of the page, which says so."""
    evidence = from_json(GateEvidence, canonical_json(decision.evidence["measured"]))
    policy = {name: value for name, value in decision.policy.items() if name != "rules_version"}
    ours = evidence.challenger.id
    theirs = evidence.champion.evaluation_id if evidence.champion else ""
    contents = VerdictContents(
        verdict=gate_of(decision),
        evidence=evidence,
        policy=GatePolicy.model_validate(policy),
        challenger=_predictions(ours, paths),
        champion=_predictions(theirs, paths) if theirs else None,
        corrupted=_corrupted(ours, theirs, paths) if theirs else None,
    )
    return write_verdict(contents, lambda image_id: original_bytes(paths, image_id), paths, at=utc_now())


def _predictions(evaluation_id: str, paths: Paths) -> Predictions | None:
    try:
        return read_predictions(paths.report(evaluation_id))
    except (EvaluationError, OSError):
        return None


def _corrupted(ours: str, theirs: str, paths: Paths) -> CorruptedAccuracy | None:
    try:
        mine, other = (recorded_robustness(paths.report(name)) for name in (ours, theirs))
    except (EvaluationError, OSError):
        return None
    return CorruptedAccuracy(mine.images, _curves(mine), _curves(other))


def _curves(robustness: Robustness) -> dict[str, list[float]]:
    """Corruption → accuracy at each severity, mildest first."""
    curves: dict[str, list[float]] = {}
    for condition in robustness.conditions:
        curves.setdefault(condition.corruption, []).append(condition.right / robustness.images)
    return curves
