"""`make serve`: the champion's Bento by `bentoml serve`, on loopback, in place of this process.

It follows the ledger from there: a promotion or a rollback is answered within two seconds, without a restart.
"""

import argparse
import os
import sys

from flywheel.ledger import LedgerError, open_ledger
from flywheel.settings import PROJECT, Settings, keep_tools_at_home


def main(arguments: list[str] | None = None) -> int:
    """Where it serves, BentoML takes this process over, so that signals reach it."""
    parser = argparse.ArgumentParser(prog="python -m tasks.serve", description=__doc__)
    parser.add_argument("--port", "--PORT", default="3000", help="on 127.0.0.1")
    port = parser.parse_args(arguments).port
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        print(f"PORT={port}: a number from 1 to 65535 was expected.", file=sys.stderr)  # noqa: T201
        return 2
    settings = Settings()
    try:
        champion = open_ledger(settings, create=False).champion()
    except LedgerError:
        champion = None
    if champion is None:
        print("There is no champion to serve yet. Run 'make run' first.", file=sys.stderr)  # noqa: T201
        return 1
    keep_tools_at_home(settings)
    os.environ |= {"FLYWHEEL_HOME": str(settings.paths.home), "FLYWHEEL_DATABASE_URL": settings.ledger_url}
    os.environ["BENTOML_HOME"] = str(settings.paths.bentoml)  # where packaging puts it, whatever the shell has set
    print(f"Serving {champion.bento_tag} ({champion.model_id}) on http://127.0.0.1:{port}", flush=True)  # noqa: T201
    command = [sys.executable, "-m", "bentoml", "serve", champion.bento_tag, "--host", "127.0.0.1", "--port", port]
    settings.paths.service.write_text(f"http://127.0.0.1:{port}\n", encoding="utf-8")  # for 'make status'
    os.chdir(PROJECT)
    os.execv(sys.executable, command)  # noqa: S606 - an argument list, no shell
    return 0


if __name__ == "__main__":
    sys.exit(main())
