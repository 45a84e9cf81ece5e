"""`make up`: a Prefect server, a worker with all deployments, and the reports, on this machine only.

What runs already is left as it is and said; what died is started again.
"""

import os
import sys
import time

from rich.console import Console

from deployments.processes import ProcessError
from deployments.registration import Registration, use_server
from deployments.stack import KEEPER, POOL, PORTS, REPORTS, SERVER, WORKER, Stack
from flywheel.settings import PROJECT, Settings, make_state_folder
from tasks.addresses import (
    PREFECT_TOML,
    REPORTS_ADDRESS,
    answers,
    prefect_api_url,
    remove_prefect_toml,
    write_prefect_toml,
)

WORKER_SECONDS = 120.0
LINES = {SERVER: "Prefect server", REPORTS: "reports", WORKER: "worker", KEEPER: "keeper"}


def main() -> int:
    """0 when everything runs; 1 with the reason."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    settings = Settings()
    stack = Stack(settings).as_it_runs(asked=settings.model_fields_set)
    make_state_folder(stack.settings)
    elsewhere = os.environ.get("PREFECT_API_URL")
    begun: list[str] = []
    try:
        with stack.book.alone():
            _bring_up(stack, console, begun)
    except (ProcessError, KeyboardInterrupt) as error:
        for name in reversed(begun):
            stack.book.end(name)
        if not stack.book.living(SERVER):
            remove_prefect_toml(PROJECT)
        console.print(str(error) or "Interrupted.", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    _say_what_next(stack, console, elsewhere)
    return 0


def _bring_up(stack: Stack, console: Console, begun: list[str]) -> None:
    """In this order: a worker needs its pool, and a deployment the server."""
    _demand_same_ports(stack)
    _demand_own_folder(stack)
    use_server(stack)
    for name in (SERVER, REPORTS):
        _run(stack, name, console, begun)
    (stack.settings.paths.state / REPORTS_ADDRESS).write_text(stack.reports + "\n", encoding="utf-8")
    if not write_prefect_toml(PROJECT, stack.api, os.environ["PREFECT_HOME"]):
        console.print(f"{PREFECT_TOML} is your own and stays: export PREFECT_API_URL={stack.api}", style="yellow")
    _register(stack, console)
    _run(stack, WORKER, console, begun)
    _wait_for_worker(stack)
    _run(stack, KEEPER, console, begun)


def _run(stack: Stack, name: str, console: Console, begun: list[str]) -> None:
    start = time.monotonic()
    there = stack.book.living(name)
    died = stack.book.read(name) is not None and there is None
    if there is None:
        begun.append(name)
        there = stack.start(name)
        how = f"{'died, started again' if died else 'started'} in {time.monotonic() - start:.0f} s"
    else:
        how = f"runs already, since {time.strftime('%Y-%m-%d %H:%M', time.localtime(there.started))}"
    where = {SERVER: stack.ui, REPORTS: stack.reports}.get(name, "")
    console.print(f"{LINES[name]:<16}{how}, pid {there.pid}  {where}".rstrip(), highlight=False, soft_wrap=True)


def _register(stack: Stack, console: Console) -> None:
    from prefect.client.orchestration import get_client

    registration = Registration(stack)
    with get_client(sync_client=True) as client:
        anew = registration.register(client)
    how = "registered" if anew else "registered already"
    console.print(f"{'deployments':<16}{how}: {', '.join(registration.names)}", highlight=False, soft_wrap=True)


def _wait_for_worker(stack: Stack) -> None:
    """Until the server has heard of it. Raises ProcessError."""
    from prefect.client.orchestration import get_client

    worker = stack.book.living(WORKER)
    deadline = time.monotonic() + WORKER_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            if any(each.status == "ONLINE" for each in client.read_workers_for_work_pool(POOL)):
                return
            if worker is None or not worker.alive:
                break
            time.sleep(0.5)
    raise ProcessError(f"worker: it did not come online. See {stack.settings.paths.state / 'logs' / 'worker.log'}")


def _demand_same_ports(stack: Stack) -> None:
    for name, field in PORTS.items():
        there = stack.book.living(name)
        if there and there.port != stack.port(name):
            raise ProcessError(
                f"{LINES[name]}: it runs on port {there.port}, and FLYWHEEL_{field.upper()} asks for "
                f"{stack.port(name)}. Run 'make down' first."
            )


def _demand_own_folder(stack: Stack) -> None:
    """One home at a time writes this folder's prefect.toml."""
    url = prefect_api_url(PROJECT)
    if url and url != stack.api and answers(f"{url}/health"):
        raise ProcessError(
            f"{PREFECT_TOML} of this folder leads to a server that runs at {url}, started from another home. "
            "Run 'make down' with that FLYWHEEL_HOME, or use a clone of its own."
        )


def _say_what_next(stack: Stack, console: Console, elsewhere: str | None) -> None:
    console.print(f"\nPrefect UI   {stack.ui}", style="bold", highlight=False)
    console.print(f"Reports      {stack.reports}", style="bold", highlight=False)
    console.print("\nNext, in this folder:", style="bold")
    for line in (
        "source .venv/bin/activate",
        "prefect deployment run 'train-classifier/quickstart' --watch",
        "make status",
        "make down",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if elsewhere and elsewhere != stack.api:
        said = f"PREFECT_API_URL of this shell leads the prefect command to {elsewhere}: unset it here."
        console.print(said, style="yellow", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
