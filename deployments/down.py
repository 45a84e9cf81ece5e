"""`make down`: ends what `make up` started, each by its pid and start time, and whatever they left behind."""

import sys

from rich.console import Console

from deployments.stack import KEEPER, REPORTS, SERVER, WORKER, Stack
from flywheel.settings import PROJECT, Settings
from tasks.addresses import REPORTS_ADDRESS, prefect_api_url, remove_prefect_toml

# the keeper first, or it would start the others again; the server last, since the worker reports to it
ORDER = (KEEPER, WORKER, REPORTS, SERVER)


def main() -> int:
    """Always 0: nothing running is what was asked for."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    stack = Stack(Settings()).as_it_runs()
    if not stack.settings.paths.state.is_dir():
        console.print("Nothing runs.")
        return 0
    with stack.book.alone():
        said = end_all(stack)
    for line in said or ["Nothing runs."]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def end_all(stack: Stack) -> list[str]:
    """A line for each thing that was ended."""
    said = []
    # noted before: what the keeper started again is its child, and ends with it
    living = {name: noted for name in ORDER if (noted := stack.book.living(name))}
    for name in ORDER:
        how = stack.book.end(name)
        if name in living:
            said.append(f"{name:<10}{how or 'ended'}, pid {living[name].pid}")
    said += [f"{'left over':<10}ended: {process}" for process in stack.book.end_marked()]
    (stack.settings.paths.state / REPORTS_ADDRESS).unlink(missing_ok=True)
    if prefect_api_url(PROJECT) == stack.api:
        remove_prefect_toml(PROJECT)
    return said


if __name__ == "__main__":
    sys.exit(main())
