"""Is the challenger better than the champion, and no worse than the anchor? Paired, on the same images.

Every promotion must be shown non-inferior to the *anchor*, the last model that was promoted as superior; one as
superior must also be shown better than the champion. Both tests may use the gate's whole level: a challenger that is
worse than the anchor by more than the margin is promoted with at most that chance, since every promotion needs the
first test; one that is not, and is no better than the champion, is promoted as superior with at most that chance. The
two wrongs are never possible in the same world at more than the level together.

Non-inferiority is measured against the anchor, for against the champion each promotion could lose a margin again.
"""

from flywheel.evaluation.evidence import Comparison, GateEvidence
from flywheel.evaluation.power import expected_disagreement, images_needed
from flywheel.evaluation.rules.answers import answer, broken, points, points_interval, shown_p, unknown
from flywheel.evaluation.spending import Spending, next_comparison
from flywheel.evaluation.statistics import mcnemar_p, noninferiority_p, paired_difference
from flywheel.policies import GatePolicy
from flywheel.records import PromotesAs, RuleResult, Verdict

RULE = "champion"


def champion_rule(evidence: GateEvidence, policy: GatePolicy) -> tuple[RuleResult, PromotesAs | None]:
    """The verdict on the comparison, and as what the challenger may be promoted."""
    champion = evidence.champion_id
    if champion is None:
        return answer(RULE, Verdict.PASS, "The task has no champion yet: the floors alone judge."), PromotesAs.FIRST
    if champion == evidence.challenger.model_id:
        return answer(RULE, Verdict.PASS, f"{champion} is the champion itself."), None
    if evidence.champion is None:
        return _stays(f"The champion {champion} can't be compared: {evidence.problem('champion')}.")
    if evidence.anchor_id is None or evidence.anchor is None:
        told = f"The anchor {evidence.anchor_id} can't be compared" if evidence.anchor_id else "There is no anchor"
        return _stays(f"{told}: {evidence.problem('anchor')}.")
    if evidence.uses is None:
        return _stays(f"How often the frozen set was used is not known: {evidence.problem('uses')}.")
    spending = next_comparison(evidence.uses, policy)
    if evidence.champion.counts.images == 0 or evidence.champion.counts.images != evidence.anchor.counts.images:
        return broken(RULE, None, 0.0, "The champion and the anchor were compared on other images."), None
    if spending.spent:
        return _stays(_told_spent(spending, evidence.champion, policy))
    return _judge(evidence.champion, evidence.anchor, spending, policy)


def _stays(reason: str) -> tuple[RuleResult, None]:
    return unknown(RULE, f"{reason} The champion stays."), None


def _judge(
    champion: Comparison, anchor: Comparison, spending: Spending, policy: GatePolicy
) -> tuple[RuleResult, PromotesAs | None]:
    counts, alpha = champion.counts, spending.alpha
    difference = paired_difference(counts.both, counts.only_challenger, counts.only_other, counts.neither)
    better = mcnemar_p(counts.only_challenger, counts.only_other)
    within = noninferiority_p(
        anchor.counts.only_challenger, anchor.counts.only_other, anchor.counts.images, policy.margin
    )
    who = (
        f"{points_interval(difference)} of top-1 against the champion {champion.model_id} on the same "
        f"{counts.images:,} images, {counts.only_challenger:,} won and {counts.only_other:,} lost"
    )
    level = f"level {alpha:.2g} of comparison {spending.number} of {spending.planned}"
    to_anchor = "" if anchor.model_id == champion.model_id else f" against the anchor {anchor.model_id}"
    margin = f"a loss of {policy.margin * 100:g} points{to_anchor}"

    def told(verdict: Verdict, reason: str, threshold: float) -> RuleResult:
        return answer(RULE, verdict, f"{reason}: {who}.", difference.value, threshold, difference)

    if better <= alpha and within <= alpha:
        reason = f"Superior (p {shown_p(better)}, {level}; {margin} is excluded, p {shown_p(within)})"
        return told(Verdict.PASS, reason, 0.0), PromotesAs.SUPERIOR
    if within <= alpha and policy.promote_non_inferior:
        reason = f"Non-inferior ({margin} is excluded, p {shown_p(within)}, {level})"
        return told(Verdict.PASS, reason, -policy.margin), PromotesAs.NON_INFERIOR
    if difference.high < 0:
        return told(Verdict.FAIL, "Inferior", 0.0), None
    if within <= alpha:
        reason = f"Non-inferior, and the policy asks for better (p {shown_p(better)}, {level})"
        return told(Verdict.NOT_ENOUGH_EVIDENCE, reason, 0.0), None
    which = f"that it is better has p {shown_p(better)}, that {margin} is excluded p {shown_p(within)}, {level}"
    return told(Verdict.NOT_ENOUGH_EVIDENCE, f"Not enough evidence ({which})", 0.0), None


def _told_spent(spending: Spending, champion: Comparison, policy: GatePolicy) -> str:
    """What would restore the budget: images that no verdict was given on."""
    counts = champion.counts
    disagreement = expected_disagreement(policy, (counts.both + counts.only_other) / counts.images)
    wanted = images_needed(next_comparison((), policy), policy, disagreement)
    return (
        f"The frozen set's {counts.images:,} images have served all {spending.planned} planned comparisons, and the "
        f"chance of a wrong promotion that the policy allows is spent (difference {points(counts.difference)} points). "
        f"{wanted:,} new labelled images on the frozen side restore it."
    )
