"""The ledger's tables, as queries see them. All are append-only; `migrations/` makes them, and what refuses changes."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times in, aware UTC times out: SQLite keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value}: a time with its zone was expected. Use datetime.now(UTC).")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


metadata = MetaData()

decisions = Table(
    "decisions",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(32), nullable=False, index=True),
    Column("task_id", String(32), nullable=False, index=True),
    Column("inputs", JSON, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("code_version", String(64), nullable=False),
    sqlite_autoincrement=True,
)

evaluation_set_uses = Table(
    "evaluation_set_uses",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("evaluation_set_id", String(32), nullable=False),
    Column("model_id", String(32), nullable=False),
    # empty, not NULL, where there was none: NULLs are distinct to a unique constraint
    Column("champion_id", String(32), nullable=False),
    Column("decision_id", String(32), ForeignKey("decisions.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    UniqueConstraint("evaluation_set_id", "model_id", "champion_id"),
    sqlite_autoincrement=True,
)

champions = Table(
    "champions",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("task_id", String(32), nullable=False, index=True),
    Column("model_id", String(32), nullable=False),
    Column("decision_id", String(32), ForeignKey("decisions.id"), nullable=False, unique=True),
    Column("bento_tag", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

# One link for every row of the tables above, in the one order in which all of them were written.
chain = Table(
    "chain",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("row_table", String(32), nullable=False),
    Column("row_position", Integer, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    UniqueConstraint("row_table", "row_position"),
)

CHAINED = (decisions, evaluation_set_uses, champions)
