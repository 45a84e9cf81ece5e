"""Commands about the gate's policy: what it can tell apart, and what another one would have decided."""

from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from flywheel.commands.output import AsJson, app, console, existing_ledger, print_json, say, stop
from flywheel.commands.policy_file import PolicyFile, read_policy
from flywheel.commands.tables import verdict
from flywheel.ledger import Kind, LedgerError, open_ledger
from flywheel.settings import Settings

DEFAULT_IMAGES = 8000
WANTED = 0.8


@app.command()
def gate_plan(
    policy: PolicyFile = None,
    images: Annotated[
        int | None, typer.Option("--images", "--IMAGES", min=1, help="Frozen images; by default the champion's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how many labelled images a gate policy needs, how many gates a frozen set allows, and its power."""
    from flywheel.evaluation.power import expected_disagreement, gates_allowed, history, images_needed, plan
    from flywheel.evaluation.spending import next_comparison

    chosen = read_policy(policy)
    count, told, top1 = (images, "as you asked", None) if images else _champion()
    disagreement = expected_disagreement(chosen, top1)
    chosen = chosen.model_copy(update={"disagreement": disagreement})
    plans = {promotions: plan(count, chosen, promotions) for promotions in range(min(3, chosen.planned_gates))}
    first = next_comparison(history(1, 0), chosen)
    last = next_comparison(history(chosen.planned_gates, 0), chosen)
    summary = {
        "images": count,
        "images_needed_first": images_needed(first, chosen, chosen.disagreement, WANTED),
        "images_needed_last": images_needed(last, chosen, chosen.disagreement, WANTED),
        "gates_allowed": gates_allowed(count, chosen, chosen.disagreement, WANTED),
    }
    if as_json:
        print_json(
            {"policy": chosen.model_dump(), **summary, "gates": [gate for part in plans.values() for gate in part]}
        )
        return
    say(
        f"Policy: a margin of {chosen.margin * 100:g} points, {chosen.planned_gates} gates on one frozen set, "
        f"{chosen.wrong_promotion_budget:g} as the chance of any wrong promotion over all of them; an equal challenger "
        f"is expected to differ on {disagreement:.1%} of the images."
    )
    gates, power = summary["gates_allowed"], f"with a power of {WANTED:.0%}"
    allowed = f"{gates:,} gates, each {power} or more while none of them promotes" if gates else f"no gate {power}"
    say(
        f"{count:,} frozen images ({told}) allow {allowed}. The policy needs "
        f"{summary['images_needed_first']:,} images for its first gate and "
        f"{summary['images_needed_last']:,} for its last. "
        "Each first model that failed its floors leaves a tenth of the level."
    )
    console().print(_plan_table(plans))


@app.command()
def replay(policy: PolicyFile = None, as_json: AsJson = False) -> None:
    """Judge all recorded gates again, under another policy or (without POLICY) their own."""
    from flywheel.commands.replaying import replay as judge_again
    from flywheel.commands.replaying import with_changes

    chosen = read_policy(policy) if policy else None
    decisions = list(reversed(existing_ledger().decisions(kind=Kind.GATE)))
    pairs = zip(judge_again(decisions, chosen), decisions, strict=True)
    found = [with_changes(again, decision, Settings().paths) for again, decision in pairs]
    tampered = any(each.changed for each in found)
    if as_json:
        print_json(found)
        if tampered or (chosen is None and not all(each.same_bytes for each in found if each.replayed)):
            raise typer.Exit(1)
        return
    table = _table("gates, judged again", ("decision", "model", "recorded", "replayed"))
    table.add_column("reason", overflow="fold")
    for each in found:
        again = verdict(each.replayed) if each.replayed else Text("–")
        table.add_row(each.decision_id, each.model_id, verdict(each.recorded), again, Text(each.reason))
    console().print(table)
    judged = [each for each in found if each.replayed]
    changed = sum(each.replayed is not each.recorded for each in judged)
    same = sum(each.same_bytes for each in judged)
    say(f"{len(judged)} of {len(found)} judged again: {changed} would end otherwise, {same} are the same to the byte.")
    for told in dict.fromkeys(one for each in found for one in each.changed):
        say(f"No longer as it was judged, {told}. The verdicts above rest on the ledger's own copy.", style="yellow")
    if chosen is None and same < len(judged):
        stop("The same policy must decide the same again; these decisions or the rules were changed since.")
    if tampered:
        raise typer.Exit(1)


def _champion() -> tuple[int, str, float | None]:
    """As many images as the champion was judged on, and its top-1; without one, what the default policy is made for."""
    try:
        ledger = open_ledger(Settings(), create=False)
        current = ledger.champion()
        if current is not None:
            gate = ledger.gate_of_champion(current)
            judged = _challenger(gate.evidence)
            return judged["images"], f"as {current.model_id} was judged on", judged["top1"]["value"]
    except (LedgerError, KeyError, TypeError):
        pass
    return DEFAULT_IMAGES, "no champion yet: what the default policy is made for", None


def _challenger(evidence: dict[str, Any]) -> dict[str, Any]:
    return dict((evidence.get("measured") or evidence)["challenger"])


def _plan_table(plans: dict[int, Any]) -> Table:
    table = _table("power of each gate, by how many models were promoted before it", ("gate",))
    for promotions in plans:
        table.add_column(f"{promotions} before: level", justify="right")
        table.add_column("equal", justify="right")
        table.add_column("better", justify="right")
    for number in range(1, len(plans[0]) + 1):
        row = [str(number)]
        for gates in plans.values():
            gate = next((gate for gate in gates if gate.number == number), None)
            row += [f"{gate.alpha:.2g}", f"{gate.non_inferior:.2f}", f"{gate.superior:.2f}"] if gate else ["", "", ""]
        table.add_row(*row)
    table.caption = "equal: shown non-inferior within the margin; better: by the margin, shown superior"
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table
