"""Triggers that refuse to change, remove or replace a row; the database itself holds them."""

from alembic import op

# INSERT OR REPLACE removes the row that is in its way without firing a DELETE trigger: the third trigger is for it.
SQLITE = {
    "no_update": "BEFORE UPDATE ON {table}",
    "no_delete": "BEFORE DELETE ON {table}",
    "no_replace": "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})",
}
POSTGRES = {
    "no_change": "BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW",
    "no_truncate": "BEFORE TRUNCATE ON {table} FOR EACH STATEMENT",
}
FUNCTION = """
CREATE FUNCTION flywheel_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$
"""


def create_function() -> None:
    """What the triggers of Postgres call; SQLite's need none."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)


def refuse_changes(table: str, same: str) -> None:
    """Create the table's triggers; `same` is the condition under which a NEW row would replace another."""
    if op.get_bind().dialect.name == "postgresql":
        for name, when in POSTGRES.items():
            op.execute(
                f"CREATE TRIGGER {table}_{name} {when.format(table=table)} EXECUTE FUNCTION flywheel_append_only()"
            )
        return
    for name, when in SQLITE.items():
        op.execute(
            f"CREATE TRIGGER {table}_{name} {when.format(table=table, same=same)} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
