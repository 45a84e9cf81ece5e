"""Kept results: read as tables, told in lines, and drawn."""

import json

import pytest
from matplotlib.image import imread

from benchmarks.gate_figures import IMAGES, PICTURES, draw
from benchmarks.results import RESULTS, main, read_figures, rows_of, shown


def test_a_table_is_read_by_row():
    table = {"a | 1 | x": 0.1, "a | 1 | y": 2, "a | 2 | x": 0.3}
    assert rows_of(table) == {("a", "1"): {"x": 0.1, "y": 2}, ("a", "2"): {"x": 0.3}}


def test_in_the_list_of_claims_a_table_is_only_counted(capsys):
    assert shown({"a | x": 1, "a | y": 2}) == "(2 cells)"
    assert shown({"value": 1.0, "low": 0.5}) == "{'value': 1.0, 'low': 0.5}"
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(list(RESULTS.glob("*.json")))
    assert any(line.endswith("power_of_planned_gates (38 cells)") for line in lines)


@pytest.mark.parametrize("name", PICTURES)
def test_a_claim_that_is_kept_is_drawn(name, tmp_path, monkeypatch):
    kept = imread(IMAGES / f"{name}.png").shape
    monkeypatch.setattr("benchmarks.gate_figures.IMAGES", tmp_path)
    assert imread(draw(name)).shape == kept
    assert kept[1] == 900


def test_what_is_claimed_of_the_gate_is_in_its_figures():
    """The figures that the design asks for, and the claims as they follow from them."""
    errors, power, labels = (read_figures(f"gate_{name}") for name in ("errors", "power", "labels"))
    assert errors["false_promotion_rate"] <= errors["false_promotion_rate_high"] <= errors["level"] + 0.005
    assert errors["peer_rule_false_promotion_rate"] > 0.4
    assert errors["lives_with_a_wrong_promotion_high"] <= errors["budget_of_a_life"]
    assert {key.split(" | ")[0] for key in power["power"]} == {"1,000", "2,000", "8,000"}
    assert min(labels["ratio_to_easeml_ci"].values()) == labels["smallest_ratio_to_easeml_ci"] > 1
    for error in ("false_pass_of_its_share", "miss_of_its_share"):
        assert max(labels[error].values()) <= 1
    for name in PICTURES:
        document = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        assert document["holds"] is True
        assert document["command"].startswith(f"make bench NAME={name}")
