"""The hash chain, also over the rows that stand already: each decision, then what it brought."""

import sqlalchemy as sa
from alembic import op

from flywheel.ledger.chain import add_link, begin_chain
from flywheel.ledger.migrations.append_only import refuse_changes

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "chain",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("row_table", sa.String(32), nullable=False),
        sa.Column("row_position", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.UniqueConstraint("row_table", "row_position"),
    )
    same = (
        "position = NEW.position OR hash = NEW.hash OR (row_table = NEW.row_table AND row_position = NEW.row_position)"
    )
    refuse_changes("chain", same)
    begin_chain(op.get_bind())
    _chain_standing_rows(op.get_bind())


def _chain_standing_rows(connection: sa.Connection) -> None:
    """The tables are read from the database as they are at this step, whatever a later one adds to them."""
    decisions, uses, champions = (
        sa.Table(name, sa.MetaData(), autoload_with=connection, resolve_fks=False)
        for name in ("decisions", "evaluation_set_uses", "champions")
    )
    rows = connection.execute(sa.select(decisions.c.position, decisions.c.id).order_by(decisions.c.position)).all()
    for position, decision_id in rows:
        add_link(connection, decisions, position)
        for table in (uses, champions):
            brought = sa.select(table.c.position).where(table.c.decision_id == decision_id).order_by(table.c.position)
            for (each,) in connection.execute(brought).all():
                add_link(connection, table, each)
