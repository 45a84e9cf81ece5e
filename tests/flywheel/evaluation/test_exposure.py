"""A frozen set that grows keeps its debts, and new images bring a new budget only once they are enough."""

from flywheel.evaluation.exposure import PastUse, exposure
from flywheel.evaluation.power import images_needed
from flywheel.evaluation.spending import Outcome, Use, next_comparison
from flywheel.policies import GatePolicy

POLICY = GatePolicy(planned_gates=3, margin=0.1)
STAYS = Use(compared=True, outcome=Outcome.STAYS)
OLD = [f"old-{number}" for number in range(500)]
NEW = [f"new-{number}" for number in range(500)]


def find(past, current_set, ids, known=None):
    return exposure(past, current_set, ids, (known or {}).get, POLICY, 0.2)


def uses(number, name="evalset-1", set_aside=()):
    return [PastUse(name, STAYS, set_aside)] * number


def test_an_unused_set_has_its_whole_budget():
    found = find([], "evalset-1", OLD)
    assert found.uses == ()
    assert found.chosen.all()


def test_uses_of_the_set_are_counted():
    assert find(uses(2), "evalset-1", OLD).uses == (STAYS, STAYS)


def test_one_more_image_does_not_begin_anew():
    found = find(uses(2), "evalset-2", [*OLD, "one more"], {"evalset-1": OLD})
    assert found.uses == (STAYS, STAYS)
    assert found.chosen.all()


def test_a_set_of_other_images_has_its_own_budget():
    assert find(uses(2), "evalset-2", NEW, {"evalset-1": OLD}).uses == ()


def test_a_set_whose_images_are_lost_counts_as_this_one():
    assert find(uses(2), "evalset-2", NEW, {}).uses == (STAYS, STAYS)


def test_a_spent_budget_stays_spent_while_there_are_too_few_new_images():
    found = find(uses(3), "evalset-2", [*OLD, *NEW[:10]], {"evalset-1": OLD})
    assert next_comparison(found.uses, POLICY).spent
    assert found.chosen.all()


def test_enough_new_images_begin_a_new_budget_on_themselves_alone():
    enough = images_needed(next_comparison((), POLICY), POLICY, 0.2, POLICY.smallest_power)
    assert enough < 500
    found = find(uses(3), "evalset-2", [*OLD, *NEW], {"evalset-1": OLD})
    assert found.uses == ()
    assert found.set_aside == ("evalset-1",)
    assert found.chosen.tolist() == [False] * 500 + [True] * 500


def test_the_new_budget_goes_on_and_is_spent_in_its_turn():
    known = {"evalset-1": OLD}
    past = [*uses(3), *uses(2, "evalset-2", ("evalset-1",))]
    found = find(past, "evalset-2", [*OLD, *NEW], known)
    assert found.uses == (STAYS, STAYS)
    assert int(found.chosen.sum()) == 500
    spent = find([*past, *uses(1, "evalset-2", ("evalset-1",))], "evalset-2", [*OLD, *NEW], known)
    assert next_comparison(spent.uses, POLICY).spent
