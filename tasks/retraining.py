"""A retraining, step by step: what asks for it, whether it may begin, what it learns from, and what came of it.

The ledger's decision is the truth. A retraining claims the decision that it acts on, so that none is acted on twice,
whoever starts it, and holds the task's lease while it works; a run that was killed lets go by saying nothing more, and
finds its own claim when it is tried again.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from flywheel.data.folders import building
from flywheel.data.versions import load_version
from flywheel.identity import NAME_DIGITS, digest
from flywheel.ledger import Champion, Decision, Kind, Ledger
from flywheel.ledger.entries import Json
from flywheel.ledger.labelled import LabelledAnswer
from flywheel.ledger.leases import Held, Leases, open_leases
from flywheel.model.folder import WEIGHTS, read_manifest, read_model
from flywheel.monitoring.diagnosis import Action
from flywheel.monitoring.look import look_of
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, GateVerdict, Release, Source, TrainedModel, Verdict
from flywheel.settings import Recipe, RetrainParameters, Settings
from tasks.cooldown import ENDED, VERDICTS, Outcome

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
MOST_LOOKS = 500  # that are searched for one that asks for a retraining


class NothingToRetrain(Exception):  # noqa: N818 - it reads as what it says
    """No champion, or nothing that asks for a retraining."""


@dataclass(frozen=True)
class Cause:
    """Why a retraining begins, resolved once at its start."""

    champion: Champion
    model: TrainedModel
    dataset: DatasetVersion  # that the champion learned from
    drift: Decision | None  # monitoring's, where it is the cause
    why: str
    claim: str
    run: str  # the flow run's id
    believed: tuple[float, float] | None  # the champion's accuracy on this traffic, as monitoring estimates it


@dataclass(frozen=True)
class Refusal:
    """Why a retraining does not begin, or does not go on."""

    outcome: Outcome
    reason: str


def find_cause(parameters: RetrainParameters, ledger: Ledger, settings: Settings, run: str, now: datetime) -> Cause:
    """Raises NothingToRetrain where there is no champion, or no decision that asks for it, LedgerError for a decision
    that is not known."""
    champion = ledger.champion(parameters.task or None)
    if champion is None:
        raise NothingToRetrain("No champion yet: 'make run' makes one.")
    drift = ledger.decision(parameters.decision) if parameters.decision else _waiting(ledger, champion, settings, run)
    if drift is not None and drift.inputs.get("release_id") != champion.decision_id:
        raise NothingToRetrain(f"{drift.id} is about another release than {champion.model_id}'s: nothing to do.")
    if drift is not None and drift.evidence.get("action") != Action.RETRAIN.value:
        raise NothingToRetrain(f"{drift.id} does not ask for a retraining: {drift.evidence.get('action')}.")
    if drift is None and parameters.cause == "drift":
        raise NothingToRetrain(f"No decision on {champion.model_id} asks for a retraining.")
    why, claim = _why(drift, champion, parameters, run, now)
    model = read_model(settings.paths.model(champion.model_id))
    dataset = load_version(settings.paths.dataset(model.dataset_id))
    return Cause(champion, model, dataset, drift, why, claim, run, believed_accuracy(ledger, champion))


def as_released(parameters: RetrainParameters, cause: Cause, ledger: Ledger) -> RetrainParameters:
    """With what the champion's release asks of its retrainings, where it does: a rehearsal's of a small task does."""
    return as_asked(parameters, ledger.decision(cause.champion.decision_id).evidence.get("retraining", {}))


def as_asked(parameters: RetrainParameters, asked: Json) -> RetrainParameters:
    """With these fields in place of its own, part by part."""
    known = parameters.model_dump()
    return RetrainParameters.model_validate({**known, **{part: {**known[part], **asked[part]} for part in asked}})


def _why(
    drift: Decision | None, champion: Champion, parameters: RetrainParameters, run: str, now: datetime
) -> tuple[str, str]:
    if drift is not None:
        return f"{drift.id} asks for it: {drift.reason}", drift.id
    if parameters.cause == "calendar":
        year, week, _ = now.isocalendar()
        return f"week {week} of {year}", f"{champion.task_id}-{year}-w{week:02}"
    return "a person asks for it", f"hand-{run}"[:64]


def _waiting(ledger: Ledger, champion: Champion, settings: Settings, run: str) -> Decision | None:
    """The last decision that asks for a retraining, if nothing acted on it, or this very run did."""
    with closing(open_leases(settings)) as leases:
        last = last_asking(ledger, champion)
        return last if last is not None and leases.claimant(last.id) in ("", run) else None


def last_asking(ledger: Ledger, champion: Champion) -> Decision | None:
    """The last look of the release that asks for a retraining, where no later one took that back."""
    for look in ledger.looks(champion, limit=MOST_LOOKS):
        action = look.evidence.get("action")
        if action == Action.RETRAIN.value:
            return look
        if (look.evidence.get("look") or {}).get("measured"):
            return None
    return None


def believed_accuracy(ledger: Ledger, champion: Champion) -> tuple[float, float] | None:
    """As monitoring estimated it last, from low to high."""
    for decision in ledger.looks(champion, limit=MOST_LOOKS):
        look = look_of(decision.evidence)
        if look is not None and look.measured is not None:
            return look.measured.estimate.low, look.measured.estimate.high
    return None


@contextmanager
def working_on(cause: Cause, settings: Settings) -> Iterator[Held | Refusal]:
    """Claim the cause and hold the task's lease while the block runs; or why that can't be.

    The claim is for good. A second event while one retraining runs is claimed too, so that it is on record, and no run
    acts on it later: monitoring asks again at its next look where that is still so.
    """
    leases = open_leases(settings)
    try:
        holder = leases.claim(cause.claim, cause.run)
        if holder != cause.run:
            yield Refusal(Outcome.TAKEN, f"The run {holder} acted on {cause.claim}.")
            return
        yield from _holding(leases, cause)
    finally:
        leases.close()


def _holding(leases: Leases, cause: Cause) -> Iterator[Held | Refusal]:
    name = f"retrain-{cause.champion.task_id}"
    other = leases.take(name, cause.run, LEASE_SECONDS)
    if other != cause.run:
        yield Refusal(Outcome.BUSY, f"The run {other} retrains the champion of {cause.champion.task_id} now.")
        return
    with leases.held(name, cause.run, LEASE_SECONDS) as held:
        yield held


def demand_lease(held: Held) -> None:
    """Raises LeaseLost before something is done that only who holds it may."""
    held.demand()


def cooling(cause: Cause, parameters: RetrainParameters, ledger: Ledger, now: datetime) -> Refusal | None:
    """Whether the last retraining of this release did not help, too short a while ago."""
    for decision in ledger.decisions(kind=Kind.RETRAIN, task_id=cause.champion.task_id):
        if decision.inputs.get("release_id") != cause.champion.decision_id:
            return None
        outcome = decision.evidence.get("outcome")
        if outcome == Outcome.HELPED:
            return None
        if outcome in ENDED:
            until = decision.created_at + timedelta(hours=parameters.policy.cooldown_hours)  # by today's policy
            if now < until and decision.inputs.get("run") != cause.run:
                told = f"{decision.id} did not help: {decision.reason}"
                return Refusal(Outcome.COOLING, f"Nothing begins before {until:%Y-%m-%d %H:%M} UTC, as {told}")
            return None
    return None


def usable(accepted: tuple[LabelledAnswer, ...], paths: Paths) -> tuple[LabelledAnswer, ...]:
    """Those whose image was kept: the others tell of accuracy, and teach nothing. One an image, the last label."""
    found = {
        each.image_id: each for each in accepted if each.image_id and paths.predicted_image(each.image_id).is_file()
    }
    return tuple(found.values())


def lay_out(labelled: tuple[LabelledAnswer, ...], paths: Paths) -> Source:
    """A source of class folders with the images that were labelled, each under its prediction's id: the same labels are
    the same folder."""
    rows = sorted((each.prediction_id, each.label, each.image_id) for each in labelled)
    name = f"labels-{digest(rows)[:NAME_DIGITS]}"
    folder = paths.raw(name)
    if not folder.is_dir():
        with building(folder) as part:
            for prediction_id, label, image_id in rows:
                _copy(paths.predicted_image(image_id), part / label / prediction_id)
    return Source(name, folder, f"{len(rows):,} images that were labelled since the release")


def _copy(kept: Path, to: Path) -> None:
    data = kept.read_bytes()
    to.parent.mkdir(parents=True, exist_ok=True)
    to.with_name(f"{to.name}{_suffix(data)}").write_bytes(data)


def _suffix(data: bytes) -> str:
    """By its first bytes: a folder is searched for images by their names."""
    heads = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"RIFF", ".webp"))
    return next((suffix for head, suffix in heads if data.startswith(head)), ".png")


def recipe_of(cause: Cause, parameters: RetrainParameters, paths: Paths) -> Recipe:
    """The champion's own recipe, from its weights on, for fewer epochs at a lower rate, all of it at once, averaged."""
    folder = paths.model(cause.model.id)
    known = Recipe.model_validate({**read_manifest(folder)["training"]["recipe"], "head_epochs": 0})
    changed = {
        "weights": str(folder / WEIGHTS),
        "epochs": parameters.policy.retrain_epochs,
        "learning_rate": min(10.0, known.learning_rate * parameters.policy.learning_rate_share),
        "ema": max(known.ema, parameters.policy.retrain_ema),
    }
    return Recipe.model_validate({**known.model_dump(), **changed})


def tried_before(dataset: DatasetVersion, cause: Cause, ledger: Ledger) -> Refusal | None:
    """The same images taught a model that did not help: the same evidence is never acted on twice."""
    for decision in ledger.decisions(kind=Kind.RETRAIN, task_id=cause.champion.task_id):
        same = decision.evidence.get("dataset_id") == dataset.id and decision.evidence.get("outcome") in ENDED
        if same and decision.inputs.get("run") != cause.run:
            return Refusal(
                Outcome.SAME, f"{decision.id} learned from the same images ({dataset.id}): {decision.reason}"
            )
    return None


def record(
    cause: Cause,
    outcome: Outcome,
    reason: str,
    parameters: RetrainParameters,
    ledger: Ledger,
    evidence: Json | None = None,
) -> Decision:
    """What became of it, whatever that is."""
    return ledger.record(
        Kind.RETRAIN,
        cause.champion.task_id,
        inputs={
            "model_id": cause.champion.model_id,
            "release_id": cause.champion.decision_id,
            "cause": cause.claim,
            "run": cause.run,
            "outcome": outcome.name.lower(),
        },
        policy=parameters.model_dump(mode="json", exclude={"task", "decision", "device"}),
        evidence={"outcome": outcome.value, "why": cause.why, **(evidence or {})},
        verdict=VERDICTS.get(outcome, Verdict.NOT_ENOUGH_EVIDENCE),
        reason=reason,
    )


def end_of(gate: GateVerdict, release: Release | None) -> tuple[Outcome, str]:
    """What a retraining that trained a model came to."""
    if gate.verdict is not Verdict.PASS:
        return Outcome.NOT_HELPED, f"{gate.model_id} stays out, the champion stays: {gate.reason}"
    if release is None or release.champion_id != gate.model_id:
        told = release.reason if release else "it was not released."
        return Outcome.HELD_BACK, f"{gate.model_id} passed its gate, and the champion stays: {told}"
    told = next((rule.reason for rule in gate.rules if rule.rule == "drifted"), "")
    return Outcome.HELPED, f"{gate.model_id} is champion. {told}"
