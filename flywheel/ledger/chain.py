"""The hash chain over all rows of the ledger: a row that is changed, removed or slipped in no longer fits it.

A link's hash is that of the link before it and of its row, all columns as the database holds them. Link 0 stands for no
row: its random hash is the ledger's id, so that two ledgers with the same rows are still two. `hash = SHA-256(previous
hash, SHA-256(table, row))`, both as canonical JSON; a column that holds nothing is left out, so a column that a later
version adds leaves older hashes as they are.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, DateTime, Select, Table, Text, cast, func, insert, select

from flywheel.identity import digest
from flywheel.ledger.entries import LedgerError
from flywheel.ledger.tables import CHAINED, UtcDateTime, chain, decisions

GENESIS = 0  # the position of the link that names the ledger


@dataclass(frozen=True)
class Link:
    """One link of the chain."""

    position: int  # 0, 1, 2 … without a gap
    row_table: str
    row_position: int
    hash: str


def begin_chain(connection: Connection) -> Link:
    """Give a ledger its id."""
    return _write(connection, Link(GENESIS, "", 0, digest(["a ledger of flywheel", uuid.uuid4().hex])))


def append(connection: Connection, table: Table, values: dict[str, Any]) -> Link:
    """Add a row and its link; the caller holds the writer's lock, so the chain has one order."""
    (position,) = connection.execute(insert(table).values(**values)).inserted_primary_key or (0,)
    return add_link(connection, table, int(position))


def add_link(connection: Connection, table: Table, position: int) -> Link:
    """Chain a row that stands in its table already."""
    ((_, row_digest),) = row_digests(connection, table, position)
    previous = last_link(connection)
    return _write(connection, Link(previous.position + 1, table.name, position, link_hash(previous.hash, row_digest)))


def last_link(connection: Connection) -> Link:
    row = connection.execute(select(chain).order_by(chain.c.position.desc()).limit(1)).one()
    return Link(**row._mapping)


def ledger_id(connection: Connection) -> str:
    """Raises LedgerError where the link that names the ledger is gone."""
    genesis = find_link(connection, GENESIS)
    if genesis is None:
        raise LedgerError("The first link of the ledger's chain is gone. 'make verify-ledger' says what else is.")
    return genesis.hash


def find_link(connection: Connection, position: int) -> Link | None:
    row = connection.execute(select(chain).where(chain.c.position == position)).one_or_none()
    return Link(**row._mapping) if row else None


def all_links(connection: Connection) -> list[Link]:
    return [Link(**row._mapping) for row in connection.execute(select(chain).order_by(chain.c.position))]


def decision_fits(connection: Connection, decision_id: str) -> bool:
    """Whether a decision, and what came with it, are as the chain has them."""
    found = []
    for table in CHAINED:
        named = table.c.id if table is decisions else table.c.decision_id
        positions = connection.scalars(select(table.c.position).where(named == decision_id)).all()
        found += [_row_fits(connection, table, position) for position in positions]
    return bool(found) and all(found)


def _row_fits(connection: Connection, table: Table, position: int) -> bool:
    of_row = (chain.c.row_table == table.name) & (chain.c.row_position == position)
    link = connection.execute(select(chain).where(of_row)).one_or_none()
    previous = find_link(connection, link.position - 1) if link else None
    ((_, row_digest),) = row_digests(connection, table, position)
    return link is not None and previous is not None and link.hash == link_hash(previous.hash, row_digest)


def link_hash(previous: str, row_digest: str) -> str:
    return digest([previous, row_digest])


def row_digests(connection: Connection, table: Table, position: int | None = None) -> Iterator[tuple[int, str]]:
    """Position and digest of every row of a table, or of the one at a position."""
    query = _as_stored(table, connection.dialect.name).order_by(table.c.position)
    if position is not None:
        query = query.where(table.c.position == position)
    for row in connection.execute(query):
        held = {name: value for name, value in row._mapping.items() if value is not None}
        yield int(held["position"]), digest([table.name, held])


def _as_stored(table: Table, dialect: str) -> Select[Any]:
    """Every column as text: nothing is parsed, so no edit can hide behind a reading, or break it."""
    return select(*(_as_text(column, dialect).label(column.name) for column in table.columns))


def _as_text(column: Column[Any], dialect: str) -> ColumnElement[str]:
    """A time in the form that SQLite keeps it, so that a row has one digest on both databases."""
    if dialect == "postgresql" and isinstance(column.type, UtcDateTime | DateTime):
        return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24:MI:SS.US", type_=Text)
    return cast(column, Text)


def _write(connection: Connection, link: Link) -> Link:
    connection.execute(
        insert(chain).values(
            position=link.position, row_table=link.row_table, row_position=link.row_position, hash=link.hash
        )
    )
    return link
