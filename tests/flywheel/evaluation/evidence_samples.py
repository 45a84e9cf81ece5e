"""A challenger, its champion and all that is known of them, to change one thing at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from flywheel.evaluation.evidence import (
    Comparison,
    CostEvidence,
    GateEvidence,
    LeakEvidence,
    PairedCounts,
    ParityEvidence,
    RobustnessEvidence,
    SliceCounts,
)
from flywheel.evaluation.gates import judge
from flywheel.evaluation.spending import Outcome, Use
from flywheel.evaluation.statistics import wilson
from flywheel.policies import GatePolicy
from flywheel.records import ClassResult, Evaluation, GateVerdict, Interval, RuleResult

POLICY = GatePolicy()
NAN = float("nan")
FIRST = Use(compared=False, outcome=Outcome.SUPERIOR)


def evaluation(right: int = 6400, images: int = 8000, model: str = "model-new", **changes: Any) -> Evaluation:
    """Two classes of equal size."""
    half = images // 2
    classes = tuple(ClassResult(label, half, wilson(right // 2, half), 0.8) for label in ("ant", "bee"))
    whole = Evaluation(
        id=f"eval-{model}",
        folder=Path("reports") / model,
        model_id=model,
        dataset_id="ds-1",
        evaluation_set_id="evalset-1",
        role="frozen",
        images=images,
        top1=wilson(right, images),
        majority_rate=0.5,
        classes=classes,
        confusion=(),
        ece=0.05,
        nll=0.5,
        images_per_second=1000.0,
        correct_sha256="ab" * 32,
    )
    return replace(whole, **changes)


def counts(won: int, lost: int, images: int = 8000, accuracy: float = 0.7) -> PairedCounts:
    both = int(images * accuracy)
    return PairedCounts(both, won, lost, images - both - won - lost)


def first_model(**changes: Any) -> GateEvidence:
    """A good one, in a task without a champion."""
    whole = GateEvidence(
        task_id="task-1",
        challenger=evaluation(),
        ece=Interval(0.02, 0.01, 0.03),
        leaks=LeakEvidence(8000, 0, 0),
        parity=ParityEvidence("classifier:1", 8, (), 2e-6, 1e-3),
    )
    return replace(whole, **changes)


def challenger(won: int = 800, lost: int = 800, **changes: Any) -> GateEvidence:
    """One that meets a champion, which is the anchor too; by default of equal worth."""
    against = Comparison("model-old", "eval-old", counts(won, lost))
    slices = (SliceCounts("class ant", counts(400, 400, 4000)), SliceCounts("class bee", counts(400, 400, 4000)))
    whole = replace(
        first_model(),
        champion_id="model-old",
        anchor_id="model-old",
        champion=against,
        anchor=against,
        uses=(FIRST,),
        slices=slices,
        robustness=RobustnessEvidence(
            1000, 21, Interval(0.6, 0.58, 0.62), Interval(0.6, 0.58, 0.62), Interval(0.0, -0.01, 0.01)
        ),
        cost=CostEvidence(Interval(1.0, 0.95, 1.05), 1.0, 2.0),
    )
    return replace(whole, **changes)


def verdict_on(evidence: GateEvidence, **policy: Any) -> GateVerdict:
    return judge(evidence, GatePolicy(**policy), {"model_id": evidence.challenger.model_id})


def rule_of(evidence: GateEvidence, name: str, **policy: Any) -> RuleResult:
    return next(rule for rule in verdict_on(evidence, **policy).rules if rule.rule == name)
