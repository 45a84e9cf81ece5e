"""The budget over a frozen set's life: it is never exceeded, whatever the verdicts were."""

from itertools import product

import pytest

from flywheel.evaluation.spending import Outcome, Use, next_comparison
from flywheel.policies import GatePolicy


def spent_over_all_histories(uses: list[Use], policy: GatePolicy) -> float:
    """The levels of this comparison and of all that could follow it."""
    spending = next_comparison(uses, policy)
    if spending.spent:
        return 0.0
    futures = (spent_over_all_histories([*uses, Use(True, outcome)], policy) for outcome in Outcome)
    return spending.alpha + sum(futures)


@pytest.mark.parametrize("planned", [1, 2, 5, 7])
def test_the_levels_of_all_histories_sum_to_the_budget(planned):
    policy = GatePolicy(planned_gates=planned)
    assert spent_over_all_histories([], policy) == pytest.approx(policy.wrong_promotion_budget)


def test_failed_first_models_are_paid_for_too():
    """Over every way in which a task can come to its first champion, the sum stays within the budget."""
    policy = GatePolicy(planned_gates=3)
    floors = [Use(False, outcome) for outcome in (Outcome.STAYS, Outcome.SUPERIOR)]
    ways = [[*[floors[0]] * failed, floors[1]] for failed in range(12)]
    assert sum(spent_over_all_histories(way, policy) for way in ways) <= policy.wrong_promotion_budget


def test_a_promotion_is_paid_for_and_a_refusal_almost_not():
    policy = GatePolicy()
    first = next_comparison([], policy).alpha
    stays = next_comparison([Use(True, Outcome.STAYS)], policy).alpha
    promoted = next_comparison([Use(True, Outcome.SUPERIOR)], policy).alpha
    assert first == pytest.approx(0.005)
    assert stays == pytest.approx(first * 9.5 / 11)
    assert promoted == pytest.approx(first * 0.75 * 1.5 / 11)


def test_after_the_planned_comparisons_nothing_is_left():
    policy = GatePolicy(planned_gates=2)
    uses = [Use(True, Outcome.STAYS)] * 2
    assert next_comparison(uses[:1], policy).alpha > 0
    spending = next_comparison(uses, policy)
    assert (spending.spent, spending.alpha, spending.number) == (True, 0.0, 3)


def test_every_history_has_a_level_above_nothing_while_the_plan_lasts():
    policy = GatePolicy(planned_gates=4)
    for outcomes in product(Outcome, repeat=3):
        assert next_comparison([Use(True, outcome) for outcome in outcomes], policy).alpha > 0
