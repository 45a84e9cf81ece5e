"""Two transactions of Prefect's on SQLite that read and then write: both go through, as they never wait too late."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from deployments.server import take_the_lock_first

SECONDS = 5.0


async def two_at_once(database: Path) -> list[str]:
    """The first reads, and the second, which began meanwhile, may write before it does. Returns what was written."""
    config = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{database}", timeout=SECONDS)
    engine = await config.engine()
    async with engine.connect() as connection:
        await connection.execute(sa.text("create table bucket (name text)"))
    has_read = asyncio.Event()

    async def write(name: str, first: bool) -> None:
        session = await config.session(engine)
        async with session, config.begin_transaction(session):
            await session.execute(sa.text("select * from bucket"))
            if first:
                has_read.set()
                await asyncio.sleep(0.5)
            await session.execute(sa.text("insert into bucket values (:name)"), {"name": name})

    async def second() -> None:
        await has_read.wait()
        await write("second", first=False)

    try:
        await asyncio.wait_for(asyncio.gather(write("first", first=True), second()), SECONDS)
        async with engine.connect() as connection:
            return list((await connection.execute(sa.text("select name from bucket"))).scalars())
    finally:
        await engine.dispose()


def test_prefects_own_transactions_are_refused_at_once(tmp_path: Path) -> None:
    """The day that this fails, `deployments.server` has had its time."""
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(two_at_once(tmp_path / "prefect.db"))


def test_with_the_lock_taken_first_they_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    take_the_lock_first()
    assert asyncio.run(two_at_once(tmp_path / "prefect.db")) == ["first", "second"]


def test_one_inside_another_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    take_the_lock_first()

    async def nested() -> int:
        config = AioSqliteConfiguration(
            connection_url=f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}", timeout=SECONDS
        )
        engine = await config.engine()
        outer, inner = await config.session(engine), await config.session(engine)
        try:
            async with outer, config.begin_transaction(outer):
                await outer.execute(sa.text("select 1"))
                async with inner, config.begin_transaction(inner):
                    return int((await inner.execute(sa.text("select 7"))).scalar_one())
        finally:
            await engine.dispose()

    assert asyncio.run(asyncio.wait_for(nested(), SECONDS)) == 7
