"""The ledger's tables. All are append-only, and the database itself refuses anything else."""

from datetime import UTC, datetime

from sqlalchemy import (
    DDL,
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
    event,
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

# INSERT OR REPLACE removes the row that is in its way without firing a DELETE trigger: the third trigger is for it.
SQLITE_APPEND_ONLY = {
    "no_update": "BEFORE UPDATE ON {table}",
    "no_delete": "BEFORE DELETE ON {table}",
    "no_replace": "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})",
}
UNIQUE_KEYS = {
    decisions: "position = NEW.position OR id = NEW.id",
    evaluation_set_uses: "position = NEW.position OR (evaluation_set_id = NEW.evaluation_set_id "
    "AND model_id = NEW.model_id AND champion_id = NEW.champion_id)",
    champions: "position = NEW.position OR decision_id = NEW.decision_id",
}


def _refuse_changes(table: Table, same: str) -> None:
    """Create the table's triggers with it; another database gets its own DDL beside this one."""
    for name, when in SQLITE_APPEND_ONLY.items():
        text = (
            f"CREATE TRIGGER {table.name}_{name} {when.format(table=table.name, same=same)} "
            f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only'); END"
        )
        event.listen(table, "after_create", DDL(text).execute_if(dialect="sqlite"))  # type: ignore[no-untyped-call]


for _table, _same in UNIQUE_KEYS.items():
    _refuse_changes(_table, _same)
