"""The way of a model: back to its source, and on to where it was champion."""

from collections.abc import Iterator
from typing import Any

from flywheel.ledger import Champion, Decision, Kind, Ledger
from flywheel.ledger.entries import Json
from flywheel.lineage.bentos import bentos_of, check_bento
from flywheel.lineage.checks import (
    check_dataset,
    check_evaluation,
    check_index,
    check_model,
    check_source,
    check_validation,
    validation_files,
)
from flywheel.lineage.node import Check, LineageError, Node, State
from flywheel.paths import Paths
from flywheel.records import TrainedModel


def explain_model(model_id: str, ledger: Ledger, paths: Paths) -> Node:
    """Everything that a model came from and came to, each thing looked at. Raises LineageError for an unknown one."""
    decisions = ledger.decisions(model_id=model_id)
    if not decisions and not paths.model(model_id).is_dir():
        raise LineageError(f"{model_id}: no such model in {paths.models} or in the ledger. 'make history' lists some.")
    recorded = recorded_artifacts(decisions)
    model, check = check_model(model_id, recorded, paths)
    children = [*_crowns(model_id, model, ledger, paths), *_judgements(decisions, ledger, paths)]
    dataset_id = model.dataset_id if model else next((_dataset_of(each) for each in decisions if _dataset_of(each)), "")
    if dataset_id:
        children.append(_dataset(dataset_id, recorded, paths))
    told = f"{model.architecture}, {model.parameters:,} parameters, on {model.device}" if model else ""
    return Node("", "model", model_id, told, check, tuple(children))


def recorded_artifacts(decisions: list[Decision]) -> Json:
    """What the ledger keeps of a model's artifacts, by the last decision that kept any; `decisions`, newest first."""
    return next((each.evidence["artifacts"] for each in decisions if each.evidence.get("artifacts")), {})


def champion_node(champion: Champion, ledger: Ledger, children: tuple[Node, ...] = ()) -> Node:
    """A time as champion, with the decision that it began by."""
    decision = ledger.decision(champion.decision_id)
    until = _until(champion, ledger)
    who = f" by {decision.inputs['who']}" if "who" in decision.inputs else ""
    told = f"since {champion.since:%Y-%m-%d %H:%M} UTC, {until}; {decision.kind} {decision.id}{who}: {decision.reason}"
    return Node("champion of", "task", champion.task_id, told, check_decision(decision.id, ledger), children)


def check_decision(decision_id: str, ledger: Ledger) -> Check:
    """A decision with what it brought, against the hash chain."""
    if ledger.is_chained(decision_id):
        return Check(State.WHOLE, "in the ledger's chain")
    return Check(State.CHANGED, "not as the ledger's chain has it. Run 'make verify-ledger'")


def _until(champion: Champion, ledger: Ledger) -> str:
    later = [each for each in ledger.history(champion.task_id) if each.position > champion.position]
    return f"until {later[-1].since:%Y-%m-%d %H:%M} UTC" if later else "until now"


def _crowns(model_id: str, model: TrainedModel | None, ledger: Ledger, paths: Paths) -> Iterator[Node]:
    """Each time as champion with its Bento, then the Bentos that were never released."""
    released = set()
    for champion in (each for each in ledger.history() if each.model_id == model_id):
        released.add(champion.bento_tag)
        yield champion_node(champion, ledger, (_bento("served as", champion.bento_tag, model, paths),))
    for bento in bentos_of(model_id, paths):
        if bento.tag not in released:
            yield _bento("packaged as", bento.tag, model, paths)


def _bento(relation: str, tag: str, model: TrainedModel | None, paths: Paths) -> Node:
    check = check_bento(tag, model, paths) if model else Check(State.UNCHECKED, "its model can't be read")
    return Node(relation, "Bento", tag, "", check)


def _judgements(decisions: list[Decision], ledger: Ledger, paths: Paths) -> Iterator[Node]:
    for gate in (each for each in decisions if each.kind is Kind.GATE):
        children = []
        if evaluation_id := gate.inputs.get("evaluation_id"):
            told, check = check_evaluation(evaluation_id, gate.inputs.get("evidence_sha256"), paths)
            children.append(Node("measured as", "evaluation", evaluation_id, told, check))
        told = f"{gate.verdict}, {gate.created_at:%Y-%m-%d %H:%M} UTC: {gate.reason}"
        yield Node("judged by", "gate", gate.id, told, check_decision(gate.id, ledger), tuple(children))


def _dataset_of(decision: Decision) -> str:
    return str(decision.inputs.get("dataset_id") or "")


def _dataset(dataset_id: str, recorded: Json, paths: Paths, relation: str = "trained on") -> Node:
    """A retraining's version extends another one, which is told under it."""
    version, check = check_dataset(dataset_id, recorded, paths)
    if version is None:
        return Node(relation, "dataset version", dataset_id, "", check)
    counts = ", ".join(f"{count:,} {side}" for side, count in version.counts.items() if count)
    before = (_dataset(version.extends, recorded.get("extends", {}), paths, "extends"),) if version.extends else ()
    children = (*_validations(dataset_id, recorded, paths), _index(version.index_id, recorded, paths), *before)
    return Node(relation, "dataset version", dataset_id, f"{len(version.classes)} classes: {counts}", check, children)


def _index(index_id: str, recorded: Json, paths: Paths) -> Node:
    manifest, check = check_index(index_id, recorded, paths)
    if manifest is None:
        return Node("made of", "index", index_id, "", check)
    children = (*_validations(index_id, recorded, paths), _source(manifest, paths))
    return Node("made of", "index", index_id, f"{manifest['images']:,} images", check, children)


def _source(manifest: dict[str, Any], paths: Paths) -> Node:
    folder, check = check_source(manifest, paths)
    shown = folder.relative_to(paths.home) if folder.is_relative_to(paths.home) else folder
    return Node("read from", "source", str(manifest["source"]), str(shown), check)


def _validations(subject: str, recorded: Json, paths: Paths) -> Iterator[Node]:
    """The kept results, and those that a promotion recorded and that are gone."""
    files = {file.stem: file for file in validation_files(subject, paths)}
    gone = {name for name in recorded.get("validations", {}) if name.startswith(f"{subject}-")} - files.keys()
    for name, file in files.items():
        told, check = check_validation(file, recorded)
        yield Node("validated by", "suite", name.removeprefix(f"{subject}-"), told, check)
    for name in sorted(gone):
        yield Node(
            "validated by", "suite", name.removeprefix(f"{subject}-"), "", Check(State.MISSING, "no such result")
        )
