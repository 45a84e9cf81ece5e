"""What the frozen sets of a task were asked before, read from the ledger's gate decisions."""

from collections.abc import Callable

from flywheel.data.versions import load_version, open_arrays
from flywheel.evaluation.exposure import PastUse
from flywheel.evaluation.record import read_predictions
from flywheel.evaluation.spending import Outcome, Use
from flywheel.ledger import Decision, Kind, Ledger
from flywheel.paths import Paths
from flywheel.records import PromotesAs, Side, Verdict

Question = tuple[str, str, str | None]  # evaluation set, challenger, champion


def past_uses(ledger: Ledger, task_id: str, asked: Question) -> list[PastUse]:
    """The uses before this question, the oldest first.

    One question is one use, under however many policies it was judged; where any of them promoted, that is what it
    told. A champion that is judged by itself is compared with nobody, and uses nothing.
    """
    answers: dict[Question, list[Decision]] = {}
    for decision in reversed(ledger.decisions(kind=Kind.GATE, task_id=task_id)):
        if decision.inputs["champion_id"] != decision.inputs["model_id"]:
            answers.setdefault(_question(decision), []).append(decision)
    questions = list(answers)
    earlier = questions[: questions.index(asked)] if asked in answers else questions
    return [_use(question, answers[question]) for question in earlier]


def frozen_ids(ledger: Ledger, task_id: str, paths: Paths) -> Callable[[str], list[str] | None]:
    """Evaluation set → its image ids, from a dataset version or an evaluation that is still there; else None."""
    decisions = ledger.decisions(kind=Kind.GATE, task_id=task_id)

    def ids_of(evaluation_set_id: str) -> list[str] | None:
        for decision in decisions:
            if decision.inputs["evaluation_set_id"] == evaluation_set_id:
                found = _ids(decision, paths)
                if found is not None:
                    return found
        return None

    return ids_of


def _question(decision: Decision) -> Question:
    inputs = decision.inputs
    return inputs["evaluation_set_id"], inputs["model_id"], inputs["champion_id"]


def _use(question: Question, decisions: list[Decision]) -> PastUse:
    grounds = [_promotes_as(decision) for decision in decisions]
    if PromotesAs.SUPERIOR in grounds or PromotesAs.FIRST in grounds:
        outcome = Outcome.SUPERIOR
    else:
        outcome = Outcome.NON_INFERIOR if PromotesAs.NON_INFERIOR in grounds else Outcome.STAYS
    return PastUse(question[0], Use(compared=question[2] is not None, outcome=outcome), _set_aside(decisions))


def _set_aside(decisions: list[Decision]) -> tuple[str, ...]:
    """Of the first judgement that could tell what was asked before: in trouble none are named."""
    found = [decision.evidence.get("measured") or {} for decision in decisions]
    told = next((measured for measured in found if measured.get("uses") is not None), found[0])
    return tuple(told.get("set_aside", ()))


def _promotes_as(decision: Decision) -> PromotesAs | None:
    """Decisions of before the grounds were recorded count as superior where they passed."""
    if decision.verdict is not Verdict.PASS:
        return None
    ground = decision.evidence["gate"].get("promotes_as", PromotesAs.SUPERIOR)
    return PromotesAs(ground) if ground else None


def _ids(decision: Decision, paths: Paths) -> list[str] | None:
    try:
        version = load_version(paths.dataset(decision.inputs["dataset_id"]))
        if version.evaluation_set_id == decision.inputs["evaluation_set_id"]:
            arrays = open_arrays(version)
            return [str(name) for name in arrays.ids[arrays.side(Side.FROZEN)]]
    except (ValueError, OSError):
        pass
    try:
        return [str(name) for name in read_predictions(paths.report(decision.inputs["evaluation_id"])).ids]
    except (RuntimeError, OSError):
        return None


def known_answers(ledger: Ledger, model_id: str, evaluation_id: str) -> set[str]:
    """The hashes of a model's answers that gates judged it by: whatever lies on disk, these are what it said."""
    judged = ledger.decisions(kind=Kind.GATE, model_id=model_id)
    return {each.inputs["evidence_sha256"] for each in judged if each.inputs["evaluation_id"] == evaluation_id}


def known_robustness(ledger: Ledger, model_id: str, evaluation_set_id: str) -> set[tuple[int, float]]:
    """How many corrupted images a model was right on by the gates that it met, as challenger or as champion: images,
    mean accuracy."""
    found = set()
    for role, of_role in (("challenger", "model_id"), ("champion", "champion_id")):
        for decision in ledger.decisions(kind=Kind.GATE):
            inputs, measured = decision.inputs, (decision.evidence.get("measured") or {}).get("robustness")
            if measured and (inputs[of_role], inputs["evaluation_set_id"]) == (model_id, evaluation_set_id):
                found.add((int(measured["images"]), float(measured[role]["value"])))
    return found


def drifted_judgements(ledger: Ledger, champion_id: str, challenger_id: str) -> int:
    """How many other challengers were judged under drift against this champion before."""
    judged = ledger.decisions(kind=Kind.GATE)
    found = {
        each.inputs["model_id"]
        for each in judged
        if each.inputs["champion_id"] == champion_id and (each.evidence.get("measured") or {}).get("drifted")
    }
    return len(found - {challenger_id})
