"""`python -m deployments.server`: `prefect server`, whose SQLite transactions take the writers' lock as they begin.

Prefect's own read first, mostly, and then write. SQLite refuses that at once, and no timeout helps, where another has
written in between: "database is locked". An event that an automation waits for is lost so after a few tries, and the
rule for silent or crashed runs then acts on a run that has ended, or that runs again already. With the lock taken at
the beginning they queue. Reads alone begin no transaction, and wait for nobody.
"""

import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


def take_the_lock_first() -> None:
    """For this process, before its first transaction."""
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_transaction(
        self: AioSqliteConfiguration, session: "AsyncSession", with_for_update: bool = False
    ) -> AbstractAsyncContextManager["AsyncSessionTransaction"]:
        # one inside another would wait for the outer's lock, and the outer for it
        inner = SQLITE_BEGIN_MODE.get() is not None
        return begin(self, session, with_for_update=with_for_update or not inner)

    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore[method-assign]


def main() -> None:
    """In this process: with one worker, `prefect server start` starts no other."""
    from prefect.cli import app

    take_the_lock_first()
    sys.argv[1:1] = ["server"]
    app()


if __name__ == "__main__":
    main()
