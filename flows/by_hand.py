"""Flows in the process of a command: with the server that they report to, and an end that says what happened."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from rich.console import Console

from flows.server import RunServer, ServerError
from flywheel.settings import PROJECT, Settings, make_state_folder
from tasks.addresses import PREFECT_TOML, answers, prefect_api_url, prefect_home, remove_prefect_toml
from tasks.interruption import listen, was_interrupted

R = TypeVar("R")
OURS = {"flywheel", "expectations", "tasks", "flows", "__main__"}
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
SECONDS_FOR_SERVERS = 5.0  # of an interrupted run, to end


def command(run: Callable[[], None], console: Console) -> int:
    """The exit code of a command whose work is `run`; its errors and Ctrl-C are said on the console."""
    listen(lambda: leave_at_once(_interrupted(console)))
    try:
        run()
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the border where a run is reported as failed
        return _interrupted(console) if was_interrupted() else _failed(error, console)
    return 0


def end(main: Callable[[], int]) -> NoReturn:
    """Leave the process with what `main` returns, at once where it was interrupted."""
    status = INTERRUPTED
    try:
        status = main()
    finally:  # also where the interrupt came between the lines above
        if was_interrupted():
            leave_at_once(status)
    sys.exit(status)


def console_of_a_command() -> Console:
    """A log file has no width of its own, and folded lines are hard to search."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def prepare() -> None:
    """Before Prefect is imported."""
    make_state_folder(Settings())
    # what Prefect logs goes to its server; a person gets the reporter's lines and one clear error
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def at_the_server(own: RunServer | None, run: Callable[[], R], load: Callable[[], object]) -> R:
    """Run flows, on a server of their own once it is up; `load` imports them while it starts."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    load()
    if own is None:
        return run()
    own.wait_until_ready()
    # nobody looks for silent runs at a server that ends with its run, and a flow waits a second for its heart to stop
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return run()


def choose_server(console: Console) -> RunServer | None:
    """Before Prefect is imported: it reads its environment, and `prefect.toml`, then. Returns one that was started."""
    if given := os.environ.get("PREFECT_API_URL"):
        if given.startswith("http://") and not answers(f"{given.rstrip('/')}/health"):
            raise ServerError(
                f"PREFECT_API_URL={given}: no Prefect server answers there. Start it, or unset the variable."
            )
        return None
    url = prefect_api_url(PROJECT)
    if url and (other := _another_home()):
        console.print(
            f"The Prefect server of 'make up' is that of {other}, so this run is not told there.", style="dim"
        )
        return _server_for_this_run(console)
    if url and answers(f"{url}/health"):
        os.environ["PREFECT_API_URL"] = url
        console.print(f"Reporting to the Prefect server of 'make up' at {url.removesuffix('/api')}", style="dim")
        return None
    if url:
        console.print(f"{PREFECT_TOML} leads to {url}, where no server answers: removed.", style="dim")
        remove_prefect_toml(PROJECT)
    if _is_configured_elsewhere():
        return None
    return _server_for_this_run(console)


def _server_for_this_run(console: Console) -> RunServer:
    console.print("Starting a Prefect server for this run, as 'make up' runs none ...", style="dim")
    own = RunServer()
    os.environ["PREFECT_API_URL"] = own.api_url
    return own


def _another_home() -> str:
    """The home of the server that `prefect.toml` leads to, where it is not this command's: its worker would look for
    data, models and ledger elsewhere."""
    found = prefect_home(PROJECT)
    return "" if found in ("", os.environ.get("PREFECT_HOME")) else str(Path(found).parent.parent)


def _is_configured_elsewhere() -> bool:
    """Where a user's own `prefect.toml`, profile or Prefect home may name a server, Prefect is left to find it."""
    home = os.environ.get("PREFECT_HOME") != str(Settings().paths.state / "prefect")
    return home or "PREFECT_PROFILE" in os.environ or (PROJECT / PREFECT_TOML).exists()


def _interrupted(console: Console) -> int:
    console.print("\nInterrupted. What was finished is kept, and the same command goes on from there.", style="yellow")
    return INTERRUPTED


def _failed(error: BaseException, console: Console) -> int:
    """Our own errors say what to do; any other is shown whole, since it is a defect."""
    if type(error).__module__.partition(".")[0] in OURS:
        console.print(f"\n{error}", style="red", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print_exception()
        console.print("This is a defect of flywheel or of a library under it. Nothing was promoted.", style="red")
    return FAILED


def leave_at_once(code: int) -> NoReturn:
    """An orderly end would wait for Prefect to deliver its logs, for ever where Ctrl-C has reached its server too."""
    import psutil

    sys.stdout.flush()
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(children, timeout=SECONDS_FOR_SERVERS)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(code)
