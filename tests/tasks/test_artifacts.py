"""What the Prefect UI is given to render."""

from flywheel.records import GateVerdict, RuleResult, Verdict
from tasks.artifacts import gate_description, gate_markdown

REASON = "Worst class “a|b”: recall 0.300 on 40 images: all of it lies below the floor 0.500."


def failed() -> GateVerdict:
    rules = (
        RuleResult("evaluation set", 1797.0, 100.0, Verdict.PASS, "1,797 frozen images."),
        RuleResult("worst class recall", 0.3, 0.5, Verdict.FAIL, REASON),
    )
    return GateVerdict(
        id="dec-1",
        model_id="model-1",
        task_id="task-1",
        evaluation_id="eval-1",
        evaluation_set_id="evalset-1",
        champion_id=None,
        verdict=Verdict.FAIL,
        rules=rules,
        reason="In the whole.",
    )


def test_the_verdict_and_its_reason_are_shown_once() -> None:
    shown = f"{gate_description(failed())}\n{gate_markdown(failed(), 1797)}"
    assert shown.lower().count("# fail") == 1
    assert "fail" not in gate_description(failed()).lower()
    assert shown.count("In the whole.") == 1


def test_a_reason_stands_below_the_table_whose_cells_do_not_wrap() -> None:
    lines = gate_markdown(failed(), 1797).splitlines()
    cells = [line for line in lines if line.startswith("| ")]
    assert cells[-2:] == [
        "| evaluation set | pass | 1,797 | 100 |",
        "| worst class recall | **FAIL** | 0.300 | 0.500 |",
    ]
    assert lines[-1] == "- **worst class recall**: " + REASON.replace("|", "\\|")
    assert lines[lines.index(cells[-1]) + 1] == "", "a list that follows a table at once would be a row of it"
