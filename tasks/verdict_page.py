"""The page of a gate's verdict, from what the ledger and the evaluations' folders hold: nothing is measured."""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.data.originals import original_bytes
from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.gates import policy_of
from flywheel.evaluation.record import (
    PREDICTIONS,
    EvaluationError,
    Predictions,
    evaluation_id,
    read_predictions,
    remade,
)
from flywheel.identity import canonical_json, digest_of_file
from flywheel.ledger import Decision, Ledger, LedgerError
from flywheel.ledger.entries import utc_now
from flywheel.ledger.reading import gate_of
from flywheel.paths import Paths
from flywheel.records import GateVerdict, from_json

if TYPE_CHECKING:
    from flywheel.report.charts import CorruptedAccuracy
    from flywheel.report.verdict import VerdictContents

logger = logging.getLogger(__name__)


def make_verdict_page(decision: Decision, paths: Paths, clock: Callable[[], datetime] = utc_now) -> Path:
    """Write `reports/<decision id>/verdict.html`; returns the page.

    What lies in no folder any more is missing on the page, with the reason. Raises LedgerError for a decision that
    isn't a gate's, or holds no whole evidence.
    """
    from flywheel.report.verdict import write_verdict

    page = write_verdict(
        _contents(decision, paths), lambda image_id: original_bytes(paths, image_id), paths, at=clock()
    )
    logger.info("verdict %s: %s", decision.id, page)
    return page


def verdict_page(
    gate: GateVerdict, ledger: Ledger, paths: Paths, *, again: bool = False, clock: Callable[[], datetime] = utc_now
) -> Path | None:
    """A verdict's page, made unless it is there, or `again`, or where an evaluation that it tells of was made since.

    If it can't be made that is a warning, no more.
    """
    from flywheel.report.verdict import PAGE

    page = paths.verdict(gate.id) / PAGE
    if page.is_file() and not again and not _is_older(page, gate, paths):
        return page
    try:
        return make_verdict_page(ledger.decision(gate.id), paths, clock)
    except Exception as error:  # noqa: BLE001 - a page that is missing is no reason to lose a verdict
        logger.warning("%s has no page: %s", gate.id, error)
        return None


def _is_older(page: Path, gate: GateVerdict, paths: Paths) -> bool:
    judged = filter(None, (gate.model_id, gate.champion_id, gate.anchor_id))
    folders = [paths.report(evaluation_id(model, gate.evaluation_set_id)) for model in judged]
    records = [folder / PREDICTIONS for folder in folders if (folder / PREDICTIONS).is_file()]
    return any(record.stat().st_mtime > page.stat().st_mtime for record in records)


def plain_words(decision: Decision) -> str:
    """What a gate decided and why, in two sentences; the rules' own reason where whole evidence was not yet kept."""
    from flywheel.report.headline import headline

    verdict = gate_of(decision)
    try:
        return " ".join(headline(verdict, _evidence(decision), policy_of(decision.policy)))
    except LedgerError:
        return verdict.reason


def _evidence(decision: Decision) -> GateEvidence:
    measured = decision.evidence.get("measured")
    if measured is None:
        raise LedgerError(f"{decision.id} was recorded before whole evidence was kept: there is no page of it.")
    return from_json(GateEvidence, canonical_json(measured))


def _contents(decision: Decision, paths: Paths) -> "VerdictContents":
    from flywheel.report.verdict import VerdictContents

    verdict, evidence = gate_of(decision), _evidence(decision)
    models = [evidence.challenger.model_id]
    folders = [paths.report(evidence.challenger.id)]
    if evidence.champion is not None:
        models.append(evidence.champion.model_id)
        folders.append(paths.report(evidence.champion.evaluation_id))
    hashes = [decision.inputs.get(name) for name in ("evidence_sha256", "champion_evidence_sha256")]
    answers = [_predictions(folder, sha256) for folder, sha256 in zip(folders, hashes, strict=False)]
    return VerdictContents(
        verdict=verdict,
        evidence=evidence,
        policy=policy_of(decision.policy),
        challenger=answers[0],
        champion=answers[1] if len(answers) > 1 else None,
        corrupted=_corrupted(folders, models) if evidence.robustness else None,
        remade=tuple(remade((*models, evidence.anchor_id), verdict.evaluation_set_id, paths)),
    )


def _predictions(folder: Path, sha256: str | None) -> Predictions | None:
    """The answers that the verdict rests on, and no others."""
    try:
        if digest_of_file(folder / PREDICTIONS) != sha256:
            raise EvaluationError(f"{folder}: other answers than those that were judged.")
        return read_predictions(folder)
    except (EvaluationError, OSError, ValueError) as error:
        logger.warning("the page goes without the answers of %s: %s", folder.name, error)
        return None


def _corrupted(folders: list[Path], models: list[str]) -> "CorruptedAccuracy | None":
    from flywheel.evaluation.robustness import recorded_robustness
    from flywheel.report.charts import corrupted_accuracy

    try:
        challenger, champion = map(recorded_robustness, folders, models)
        return corrupted_accuracy(challenger, champion)
    except (EvaluationError, OSError, ValueError) as error:
        logger.warning("the page goes without robustness curves: %s", error)
        return None
