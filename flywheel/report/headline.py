"""What was decided and why, in two sentences that need no statistics; the numbers stand below them."""

from collections.abc import Callable

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.gates import meets_champion
from flywheel.evaluation.spending import next_comparison
from flywheel.policies import GatePolicy
from flywheel.records import GateVerdict, PromotesAs, RuleResult, Verdict
from flywheel.units import percent, points

FAIL, UNKNOWN = Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE

LET_THROUGH = {
    PromotesAs.FIRST: "The model may become the task's first champion: it meets all that the policy asks of one.",
    PromotesAs.SUPERIOR: "The new model may become champion: it is better than the present one, and passes every rule.",
    PromotesAs.NON_INFERIOR: "The new model may become champion: it isn't shown to be better than the present one, but "
    "it loses no more than the policy allows, and passes every rule.",
}
SAID = {
    ("leaks", FAIL): "Images that it is judged on, or near copies of them, were among those that a model learned from, "
    "so what it scores on them means nothing.",
    ("leaks", UNKNOWN): "Nobody knows whether the images that it is judged on were among those that it learned from.",
    ("serving parity", FAIL): "What would be served does not answer as the model that was judged.",
    ("serving parity", UNKNOWN): "What would be served was not compared with the model that was judged.",
    ("evaluation set", UNKNOWN): "There are too few labelled images to judge on.",
    ("top-1", FAIL): "It gives the right answer too seldom.",
    ("top-1", UNKNOWN): "These images are too few to say whether it gives the right answer often enough.",
    ("worst class recall", FAIL): "It misses too many images of one class.",
    ("worst class recall", UNKNOWN): "These images are too few to say whether it recognises every class.",
    ("calibration", FAIL): "How sure it says that it is, and how often it is right, lie too far apart.",
    ("calibration", UNKNOWN): "It isn't known well enough whether it is right as often as it says.",
    ("champion", FAIL): "It could not be compared with the champion.",
    ("slices", UNKNOWN): "It isn't known well enough how it does on every part of the images.",
    ("slices", FAIL): "On one part of the images it is clearly worse than the champion.",
    ("robustness", FAIL): "On blurred, noisy and otherwise corrupted images it is clearly worse than the champion.",
    ("robustness", UNKNOWN): "It isn't known well enough how it does on blurred, noisy and otherwise corrupted images.",
    ("latency", FAIL): "It takes too long for an answer, next to the champion.",
    ("latency", UNKNOWN): "It isn't known well enough how long it takes for an answer, next to the champion.",
    ("size", FAIL): "It is too large, next to the champion.",
    ("size", UNKNOWN): "It isn't known how large it is, next to the champion.",
}


def headline(verdict: GateVerdict, evidence: GateEvidence, policy: GatePolicy) -> tuple[str, str]:
    """Two sentences: what was decided, and the weightiest reason for it."""
    return _decided(verdict, evidence), _why(verdict, evidence, policy)


def _decided(verdict: GateVerdict, evidence: GateEvidence) -> str:
    if verdict.verdict is Verdict.PASS:
        itself = "This model is the champion already, and meets the policy's floors."
        return LET_THROUGH[verdict.promotes_as] if verdict.promotes_as else itself
    if meets_champion(evidence):
        start = "The champion stays: the new model"
    elif evidence.champion_id:
        start = "The champion itself was judged again, and"
    else:
        start = "The model may not become champion: it"
    return f"{start} {_counted(verdict.rules)}."


def _counted(rules: tuple[RuleResult, ...]) -> str:
    """How many rules did not pass, in words that go on a sentence."""
    failed, unknown = (sum(rule.verdict is wanted for rule in rules) for wanted in (FAIL, UNKNOWN))
    lacks = f"the evidence is not enough on {unknown}"
    if failed:
        return f"fails {failed} of {len(rules)} rules" + (f", and {lacks} more" if unknown else "")
    return f"does not pass, as {lacks} of {len(rules)} rules"


def _why(verdict: GateVerdict, evidence: GateEvidence, policy: GatePolicy) -> str:
    if verdict.verdict is Verdict.PASS:
        return _in_its_favour(verdict, evidence)
    weightiest = next((rule for rule in verdict.rules if rule.verdict is verdict.verdict), None)
    if weightiest is None:
        return "No rule was asked."
    own = NUMBERS.get(weightiest.rule)
    found = own(weightiest, evidence, policy) if own else None
    return found or SAID.get((weightiest.rule, weightiest.verdict), weightiest.reason)


def _in_its_favour(verdict: GateVerdict, evidence: GateEvidence) -> str:
    tally = _tally(evidence)
    if tally and verdict.promotes_as is PromotesAs.SUPERIOR:
        return f"{tally}: so large a lead is hardly ever luck."
    if tally and verdict.promotes_as is PromotesAs.NON_INFERIOR:
        return f"{tally}: a loss of more than the policy allows would hardly ever look like that."
    top1, majority = evidence.challenger.top1.value, evidence.challenger.majority_rate
    return (
        f"It is right on {percent(top1)} of {evidence.challenger.images:,} images that it never learned from, where "
        f"always giving the commonest answer is right on {percent(majority)}."
    )


def _tally(evidence: GateEvidence) -> str:
    """Who was right alone, without the end of the sentence; empty where the two were not compared."""
    if evidence.champion is None or not evidence.champion.counts.images:
        return ""
    counts = evidence.champion.counts
    return (
        f"Of the same {counts.images:,} images, {counts.only_challenger:,} were right with the new model alone and "
        f"{counts.only_other:,} with the champion alone"
    )


def _of_comparison(rule: RuleResult, evidence: GateEvidence, policy: GatePolicy) -> str | None:
    tally = _tally(evidence)
    if rule.verdict is FAIL:
        return f"{tally}: it is worse." if tally and rule.value is not None else None
    if not tally or evidence.anchor is None or evidence.champion is None:
        return "The new model and the champion could not be compared."
    if evidence.uses is None:
        return "Nobody knows how often these images were asked before, so no comparison on them can be believed."
    if next_comparison(evidence.uses, policy).spent:
        return (
            "The frozen images were asked as often as the policy plans for: one more answer of theirs could not be "
            "believed, and new labelled images are needed."
        )
    ahead = evidence.champion.counts.difference > 0
    return f"{tally}: {'so small a lead may be luck' if ahead else 'that is no lead'}."


def _of_top1(rule: RuleResult, evidence: GateEvidence, _: GatePolicy) -> str | None:
    if rule.verdict is not FAIL or rule.threshold is None or rule.interval is None:
        return None
    right, asked = percent(evidence.challenger.top1.value), percent(rule.threshold)
    return f"It gives the right answer too seldom: on {right} of the images, where the policy asks for {asked}."


def _of_slices(rule: RuleResult, _: GateEvidence, __: GatePolicy) -> str | None:
    failed = [part for part in rule.parts if part.verdict is FAIL and part.value is not None]
    if rule.verdict is not FAIL or not failed:
        return None
    worst = min(failed, key=lambda part: part.value or 0.0)
    return (
        f"On one part of the images, “{worst.name}”, it is clearly worse than the champion: "
        f"{points(worst.value).removeprefix('-')} points of 100 are lost."
    )


Said = Callable[[RuleResult, GateEvidence, GatePolicy], str | None]
NUMBERS: dict[str, Said] = {"champion": _of_comparison, "top-1": _of_top1, "slices": _of_slices}
