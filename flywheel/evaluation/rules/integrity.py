"""Can the evidence be believed, and does what is served answer as what was judged?"""

from math import isfinite

from flywheel.evaluation.evidence import GateEvidence
from flywheel.evaluation.rules.answers import answer, broken, unknown
from flywheel.records import RuleResult, Verdict


def leak_rule(evidence: GateEvidence) -> RuleResult:
    """No evaluation image, or near copy of one, on a side that either model learned from."""
    rule, leaks = "leaks", evidence.leaks
    if leaks is None:
        return unknown(rule, f"What the models learned from is not known: {evidence.problem('leaks')}.", None, 0.0)
    found = leaks.exact + leaks.near
    if min(leaks.exact, leaks.near) < 0 or leaks.images_checked < 1:
        return broken(rule, None, 0.0, "No evaluation image was looked for in the training data.")
    if found:
        counted = (
            f"A model learned from {found:,} of {leaks.images_checked:,} evaluation images, or near copies of them"
        )
        told = "; ".join(leaks.examples).rstrip(".") or counted  # the examples have the counts too, by model
        reason = f"{told}. The comparison means nothing; take them out and train again."
        return answer(rule, Verdict.FAIL, reason, float(found), 0.0)
    reason = f"None of {leaks.images_checked:,} evaluation images, nor a near copy, was learned from."
    return answer(rule, Verdict.PASS, reason, 0.0, 0.0)


def parity_rule(evidence: GateEvidence) -> RuleResult:
    """The served Bento's logits are the trained model's, on the same bytes."""
    rule, parity = "serving parity", evidence.parity
    if parity is None:
        return unknown(rule, f"The served Bento was not compared with the model: {evidence.problem('parity')}.")
    threshold = parity.tolerance
    if parity.failed:
        reason = f"{parity.bento_tag} does not answer as its model does: {'; '.join(parity.failed)}."
        value = parity.largest if parity.largest is not None and isfinite(parity.largest) else None
        return answer(rule, Verdict.FAIL, reason, value, threshold)
    if parity.probes < 1:
        return broken(rule, None, threshold, f"{parity.bento_tag}: no image was sent to it.")
    if parity.largest is None or not parity.largest <= threshold:
        return broken(rule, parity.largest, threshold, f"{parity.bento_tag}: its answers were not measured.")
    reason = (
        f"{parity.bento_tag}, served, answers {parity.probes} images of all kinds as the model does: logits within "
        f"{parity.largest:.1g}, {threshold:g} allowed."
    )
    return answer(rule, Verdict.PASS, reason, parity.largest, threshold)
