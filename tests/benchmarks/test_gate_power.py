"""Powers by enumeration, against numbers by hand."""

import pytest

from benchmarks.gate_power import DRAWS, GATES, Power, default_gate, floor, peers_power
from benchmarks.gate_simulation import Pair


def test_the_rule_of_most_programs_by_hand():
    """One image: promoted unless only the champion is right. Two: won at least as often as lost."""
    assert peers_power(Pair(1, 0.5, 0.0)) == pytest.approx(0.75)
    won, lost = 0.3, 0.2
    agree = 1 - won - lost
    assert peers_power(Pair(2, 0.5, 0.1)) == pytest.approx(agree**2 + won**2 + 2 * won * agree + 2 * won * lost)


def test_the_gates_have_the_levels_of_the_policy():
    assert GATES[".05"].alpha == 0.05
    assert GATES["first gate"].alpha == pytest.approx(0.05 / 10 * 0.9)
    assert GATES["tenth gate"].alpha == pytest.approx(0.05 / 10 * 0.9 * (9.5 / 11) ** 9)
    assert default_gate(3, promoted=1).alpha == pytest.approx(0.05 / 10 * 0.9 * (1.5 / 11 * 0.75) * (9.5 / 11))


def test_the_distance_is_in_standard_errors():
    assert Power(0.5, 0.5 + 0.5 / DRAWS**0.5).distance == pytest.approx(1)
    assert Power(1.0, 1.0 - 1 / DRAWS).distance == pytest.approx(1)


def test_only_certainty_is_told_as_such():
    assert (floor(0.99999), floor(1.0), floor(0.8284)) == (0.999, 1.0, 0.828)
