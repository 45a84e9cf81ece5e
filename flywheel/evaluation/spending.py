"""The frozen set wears out: each verdict on it is a use, and the error that a use may make is spent from one budget.

A challenger is trained after earlier verdicts were given, from the champion that they left. Tests on the same images
would stay honest only if the next model did not depend on the last answer, and it does. So the budget is spread over
everything that could have happened: a *history* is the list of outcomes so far, and a model that answers to a history
is, before any verdict is given, one fixed model. The levels of all histories sum to the budget, so by the union bound
the chance of any wrong promotion stays within it, however challengers depend on the verdicts.

This is the compression argument of the Ladder (Blum and Hardt 2015), which pays for the steps at which a leader
changed and not for every look, applied to a budget over a planned number of steps as ease.ml/ci has it (Renggli et al.,
MLSys 2019). Its `full` adaptivity gives each of 2^t histories the same share; here a history's share is its weight
under a prior in which few gates promote, so the common one, "no promotion yet", costs almost nothing.

What is guarded is what flows back by verdicts. A person who studies the frozen images' answers and tunes by hand learns
more than a verdict; no budget covers that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from flywheel.policies import GatePolicy

# The prior over outcomes. Any weights that sum to 1 keep the guarantee; these place the power where gates mostly are.
FIRST_MODEL_PASSES = 0.9
EXPECTED_PROMOTIONS = 1.5  # over the planned comparisons
SUPERIOR_SHARE = 0.75  # of promotions; the others are as non-inferior


class Outcome(StrEnum):
    """What a use of the frozen set told the world."""

    SUPERIOR = "superior"  # the task's first model, which passed its floors, counts as one
    NON_INFERIOR = "non-inferior"
    STAYS = "stays"  # nothing may be promoted, for whatever reason


@dataclass(frozen=True)
class Use:
    """One question that was asked of the frozen set."""

    compared: bool  # with a champion; else the task had none, and the floors alone judged
    outcome: Outcome


@dataclass(frozen=True)
class Spending:
    """The budget as one gate finds it."""

    number: int  # of this comparison on its images, from 1
    planned: int
    promotions: int  # before it, on these images
    alpha: float  # the chance of a wrong promotion that this gate may take; 0 where all is spent

    @property
    def spent(self) -> bool:
        return self.number > self.planned


def next_comparison(uses: Sequence[Use], policy: GatePolicy) -> Spending:
    """The level of the comparison that follows these uses of the same images.

    A first model is judged by its floors, which promise nothing about a champion: only its outcome is paid for.
    """
    compared = [use for use in uses if use.compared]
    number, planned = len(compared) + 1, policy.planned_gates
    weight = prod(_weight(use, planned) for use in uses)
    return Spending(
        number=number,
        planned=planned,
        promotions=sum(use.outcome is not Outcome.STAYS for use in compared),
        alpha=policy.wrong_promotion_budget / planned * weight if number <= planned else 0.0,
    )


def _weight(use: Use, planned: int) -> float:
    """The prior probability of an outcome; over all outcomes of a use they sum to 1."""
    stays = use.outcome is Outcome.STAYS
    if not use.compared:
        return 1 - FIRST_MODEL_PASSES if stays else FIRST_MODEL_PASSES
    promotes = min(0.5, EXPECTED_PROMOTIONS / (planned + 1))
    if stays:
        return 1 - promotes
    return promotes * (SUPERIOR_SHARE if use.outcome is Outcome.SUPERIOR else 1 - SUPERIOR_SHARE)
