"""Before a champion is made: the model and its Bento must be whole, and the decision as the ledger's chain has it."""

from flywheel.ledger import Decision, Kind, Ledger
from flywheel.ledger.predictions import Role
from flywheel.lineage.bentos import bentos_of, check_bento
from flywheel.lineage.checks import artifacts_of, check_model
from flywheel.lineage.model import recorded_artifacts
from flywheel.lineage.node import LineageError, State
from flywheel.paths import Paths
from flywheel.records import Release, TrainedModel, Verdict

PAST_IT = (
    "'make history' lists the champions before it; 'make promote MODEL=<id> REASON=\"…\"' brings any of them back."
)


def demand_releasable(gate_id: str, bento_tag: str, ledger: Ledger, paths: Paths) -> Decision:
    """The gate decision that a release rests on.

    Raises LedgerError for an unknown one, LineageError where it is no gate's, was changed since it was recorded, or,
    where it passed, its model or that Bento of it is missing, damaged or another's.
    """
    gate = ledger.decision(gate_id)
    if gate.kind is not Kind.GATE:
        raise LineageError(f"{gate.id} is a {gate.kind} decision; a promotion rests on a gate's. The champion stays.")
    _demand_chained(gate, ledger)
    if gate.verdict is Verdict.PASS:
        _demand_bento(bento_tag, _whole_model(gate.inputs["model_id"], ledger, paths), paths)
    return gate


def force_champion(model_id: str, ledger: Ledger, paths: Paths, *, reason: str, who: str, bento: str = "") -> Release:
    """Make a model champion although its gate did not pass, by a person's decision; with its newest Bento, or `bento`.

    Raises LineageError where the reason is empty, the model was never judged, or its folder or Bento is missing or
    damaged.
    """
    if not reason.strip():
        raise LineageError(f'{model_id}: a reason is expected, REASON="…": it stays on record with your name.')
    model = _whole_model(model_id, ledger, paths)
    tag = bento or _newest_bento(model, paths)
    _demand_bento(tag, model, paths)
    gate = _last_gate(model, ledger)
    _demand_chained(gate, ledger)
    return ledger.force(gate, tag, reason=reason, who=who, artifacts=artifacts_of(model, paths))


def restore_previous(task_id: str | None, ledger: Ledger, paths: Paths, *, reason: str, who: str) -> Release:
    """Bring back the champion before the current one.

    Raises LineageError where there is none, or its folder or Bento is missing or damaged.
    """
    current = ledger.champion(task_id)
    if current is None:
        raise LineageError(f"No champion{f' of {task_id}' if task_id else ''} yet: there is nothing to go back from.")
    target = ledger.previous_champion(current.task_id)
    if target is None:
        raise LineageError(f"{current.task_id}: {current.model_id} has no champion before it to go back to.")
    try:
        model = _whole_model(target.model_id, ledger, paths)
        _demand_bento(target.bento_tag, model, paths)
    except LineageError as error:
        raise LineageError(f"{error} {PAST_IT}") from error
    told = reason.strip() or "No reason was given."
    return ledger.rollback(current, target, reason=told, who=who, artifacts=artifacts_of(model, paths))


def demand_trial(model_id: str, role: Role, ledger: Ledger, paths: Paths) -> tuple[str, str]:
    """The task and Bento of a model that may go on trial. Raises LineageError where its files are not whole, or where
    it would answer clients and its last gate did not pass."""
    model = _whole_model(model_id, ledger, paths)
    gate = _last_gate(model, ledger)
    if role is Role.CANARY and gate.verdict is not Verdict.PASS:
        raise LineageError(
            f"{model_id}: its gate {gate.id} ended with “{gate.verdict}”, so it answers no client: {gate.reason} "
            "'make shadow' lets it look on."
        )
    tag = _newest_bento(model, paths)
    _demand_bento(tag, model, paths)
    return model.task_id, tag


def _whole_model(model_id: str, ledger: Ledger, paths: Paths) -> TrainedModel:
    recorded = recorded_artifacts(ledger.decisions(model_id=model_id))
    model, check = check_model(model_id, recorded, paths)
    if model is None or check.state is not State.WHOLE:
        raise LineageError(f"{model_id}: {check.told.rstrip('.')}. The champion stays.")
    return model


def _newest_bento(model: TrainedModel, paths: Paths) -> str:
    found = bentos_of(model.id, paths)
    if not found:
        raise LineageError(
            f"{model.id}: no Bento of it in {paths.bentoml}. 'make train' packages it. The champion stays."
        )
    return found[0].tag


def _demand_bento(tag: str, model: TrainedModel, paths: Paths) -> None:
    check = check_bento(tag, model, paths)
    if check.state is not State.WHOLE:
        raise LineageError(f"{tag}: {check.told.rstrip('.')}. The champion stays.")


def _demand_chained(decision: Decision, ledger: Ledger) -> None:
    if not ledger.is_chained(decision.id):
        raise LineageError(
            f"{decision.id}: not as the ledger's chain has it. 'make verify-ledger' tells what was changed. "
            "The champion stays."
        )


def _last_gate(model: TrainedModel, ledger: Ledger) -> Decision:
    gates = ledger.decisions(kind=Kind.GATE, task_id=model.task_id, model_id=model.id)
    if not gates:
        raise LineageError(f"{model.id}: no gate has judged it here. 'make train' judges it, and trains nothing again.")
    return gates[0]
