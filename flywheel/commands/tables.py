"""The ledger's records as Rich tables, readable at 80 columns and without a terminal."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flywheel.ledger import Champion, Decision, Kind
from flywheel.records import Verdict
from flywheel.units import in_unit

COLOURS = {"pass": "green", "fail": "red", "not enough evidence": "yellow"}


def champion_panel(champion: Champion, decision: Decision, gate: Decision) -> RenderableType:
    """Who, since when, why, and where a person decided it, by whom."""
    facts = {
        "champion": champion.model_id,
        "task": champion.task_id,
        "Bento": champion.bento_tag,
        "since": moment(champion.since),
        "why": decision.reason,
        decision.kind.value: decision.id,
        **({"by": decision.inputs["who"]} if "who" in decision.inputs else {}),
        "gate": gate.id,
    }
    return Group(_facts(facts), Text(), rules_table(gate))


def champions_table(champions: Sequence[Champion], decisions: dict[str, Decision]) -> Table:
    """One row a champion; `decisions` are those that made them, by id."""
    table = _table(champions[0].task_id, ("since", "model", "decision", "kind", "why"))
    for champion in champions:
        decision = decisions[champion.decision_id]
        by = f" ({decision.inputs['who']})" if "who" in decision.inputs else ""
        why = Text(f"{decision.reason}{by}")
        table.add_row(moment(champion.since), champion.model_id, decision.id, decision.kind, why)
    return table


def decisions_table(decisions: Sequence[Decision]) -> Table:
    """One row a decision."""
    table = _table("decisions", ("at", "id", "kind", "model", "outcome"))
    for decision in decisions:
        model = str(decision.inputs.get("model_id", "–"))
        table.add_row(moment(decision.created_at), decision.id, decision.kind, model, outcome(decision))
    return table


def outcome(decision: Decision) -> Text:
    """What came of it, in the words of its kind."""
    if decision.kind is Kind.PROMOTION:
        promoted = decision.verdict is Verdict.PASS
        return Text("promoted", style="green") if promoted else Text("refused", style="red")
    by_hand = {Kind.FORCE: "forced by hand", Kind.ROLLBACK: "rolled back"}
    return Text(by_hand[decision.kind], style="yellow") if decision.kind in by_hand else verdict(decision.verdict)


def decision_panel(decision: Decision) -> RenderableType:
    """A decision with all that it rests on."""
    facts = {
        "decision": decision.id,
        "kind": decision.kind,
        "at": moment(decision.created_at),
        "verdict" if decision.kind is Kind.GATE else "outcome": outcome(decision),
        "reason": decision.reason,
        **{name: value for name, value in decision.inputs.items() if value is not None},
        "policy": ", ".join(f"{name} {value}" for name, value in decision.policy.items()),
        "code": decision.code_version[:12],
    }
    parts: list[RenderableType] = [_facts(facts)]
    if "gate" in decision.evidence:
        parts += [Text(), rules_table(decision)]
    return Group(*parts)


def rules_table(gate: Decision) -> Table:
    """One row a rule of a gate decision, in the units of the verdict's page."""
    table = _table("rules", ("rule", "value", "threshold", "verdict"))
    table.add_column("reason", overflow="fold")
    for rule in gate.evidence["gate"]["rules"]:
        table.add_row(
            rule["rule"],
            in_unit(rule["value"], rule["rule"]),
            in_unit(rule["threshold"], rule["rule"]),
            verdict(rule["verdict"]),
            Text(rule["reason"]),
        )
    table.caption = "champion, slices, robustness, drifted: percentage points; latency, size: times the champion's"
    table.caption_justify = "left"
    return table


def verdict(name: str) -> Text:
    return Text(str(name), style=COLOURS.get(name, ""))


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _facts(facts: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in {"id", "model", "at", "since", "kind", "decision"})
    return table
