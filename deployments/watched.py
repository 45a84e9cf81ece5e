"""The champion, its service and what monitoring last said of it, for `make status`."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

from rich.table import Table

from flywheel.ledger import Champion, Kind, LedgerError, open_ledger
from flywheel.ledger.leases import open_leases
from flywheel.ledger.predictions import open_predictions
from flywheel.records import Verdict
from flywheel.settings import Settings
from flywheel.units import percent
from tasks.addresses import answers
from tasks.cooldown import cooldown_until

COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.NOT_ENOUGH_EVIDENCE: "yellow"}


def watched(settings: Settings, now: datetime | None = None) -> Table:
    """One row a thing that a person asks for first."""
    table = table_of("champion", "")
    try:
        ledger = open_ledger(settings, create=False)
        champion = ledger.champion()
    except LedgerError as error:
        table.add_row("none", f"[dim]{str(error).partition('. ')[0]}[/]")
        return table
    if champion is None:
        table.add_row("none", "[dim]'make run' makes one[/]")
        return table
    age = (now or datetime.now(UTC)) - champion.since
    table.add_row(champion.model_id, f"since {moment(champion.since.timestamp())}, {_age(age)}, {champion.bento_tag}")
    table.add_row("service", _service(settings))
    for name, said in (*_last_look(settings, champion), *_loop(settings, champion, now or datetime.now(UTC))):
        table.add_row(name, said)
    return table


def _service(settings: Settings) -> str:
    try:
        url = settings.paths.service.read_text(encoding="utf-8").strip()
    except OSError:
        return "[dim]not started: 'make serve'[/]"
    if answers(f"{url}/readyz"):
        return f"[green]ready[/] at {url}"
    return f"[red]does not answer[/] at {url}, or is not ready"


def _last_look(settings: Settings, champion: Champion) -> list[tuple[str, str]]:
    from flywheel.monitoring.look import look_of

    decision = open_ledger(settings, create=False).last_look(champion)
    if decision is None:
        return [("last look", "[dim]none yet: 'make monitor'[/]")]
    look = look_of(decision.evidence)
    if look is None:
        return [("last look", f"{moment(decision.created_at.timestamp())}  {decision.id}, of another version")]
    found = look.measured
    what = look.outcome if found is None else f"{found.diagnosis.cause}: {look.action}"
    colour = COLOURS[decision.verdict]
    rows = [("last look", f"{moment(decision.created_at.timestamp())}  [{colour}]{what}[/]  {decision.id}")]
    if found is not None:
        estimate = found.estimate
        interval = f"[{percent(estimate.low)}, {percent(estimate.high)}]".replace("[", "\\[")
        rows.append(
            ("accuracy", f"{percent(estimate.value)} {interval} estimated, {percent(estimate.reference)} before")
        )
    if look.labelled is not None:
        rows.append(("by labels", f"{percent(look.labelled.value)}, {look.labels:,} labels"))
    alarm = f"[red]since look {look.state.alarmed_at}[/]" if look.alarm else "[green]none[/]"
    rows.append(("alarm", f"{alarm}, {look.state.looks:,} looks since the release"))
    return rows


def _loop(settings: Settings, champion: Champion, now: datetime) -> list[tuple[str, str]]:
    """What the retraining waits for or does, and who is on trial."""
    predictions = open_predictions(settings)
    with closing(open_leases(settings)) as leases:
        holder = leases.holder(f"retrain-{champion.task_id}", now)
    waiting, trial = predictions.count_asked(champion.task_id), predictions.trial(champion.task_id)
    predictions.close()
    rows = [("labels", f"{waiting:,} images wait for one" if waiting else "[dim]none is asked for[/]")]
    if trial is None:
        rows.append(("canary", "[dim]none[/]"))
    else:
        rows.append(("canary", f"{trial.model_id}, {trial.role} of {trial.share:.0%}, {trial.reason}"))
    last = next(iter(open_ledger(settings, create=False).decisions(kind=Kind.RETRAIN, limit=1)), None)
    if holder:
        rows.append(("retraining", f"[yellow]under way[/] since its claim, run {holder}"))
    elif last is None:
        rows.append(("retraining", "[dim]none yet[/]"))
    else:
        until = cooldown_until(last)
        cooling = f", cooldown until {moment(until.timestamp())}" if until and until > now else ""
        colour = COLOURS[last.verdict]
        told = f"{moment(last.created_at.timestamp())}  [{colour}]{last.evidence['outcome']}[/]  {last.id}{cooling}"
        rows.append(("retraining", told))
    return rows


def _age(age: timedelta) -> str:
    return f"{age.days:,} days ago" if age.days else f"{age.total_seconds() / 3600:.1f} hours ago"


def table_of(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
