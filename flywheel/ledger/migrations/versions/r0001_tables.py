"""Decisions, evaluation set uses, champions: the ledger as it was before migrations, so it may stand already."""

import sqlalchemy as sa
from alembic import op

from flywheel.ledger.migrations.append_only import create_function, refuse_changes

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("decisions"):
        return  # made by a version that kept no record of its schema: this very one
    create_function()
    _decisions()
    _evaluation_set_uses()
    _champions()


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("kind", sa.String(32), nullable=False, index=True),
        sa.Column("task_id", sa.String(32), nullable=False, index=True),
        *(sa.Column(name, sa.JSON, nullable=False) for name in ("inputs", "policy", "evidence")),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("code_version", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )
    refuse_changes("decisions", "position = NEW.position OR id = NEW.id")


def _evaluation_set_uses() -> None:
    question = ("evaluation_set_id", "model_id", "champion_id")
    op.create_table(
        "evaluation_set_uses",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.String(32), nullable=False) for name in question),
        sa.Column("decision_id", sa.String(32), sa.ForeignKey("decisions.id"), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.UniqueConstraint(*question),
        sqlite_autoincrement=True,
    )
    same = " AND ".join(f"{name} = NEW.{name}" for name in question)
    refuse_changes("evaluation_set_uses", f"position = NEW.position OR ({same})")


def _champions() -> None:
    op.create_table(
        "champions",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(32), nullable=False, index=True),
        sa.Column("model_id", sa.String(32), nullable=False),
        sa.Column("decision_id", sa.String(32), sa.ForeignKey("decisions.id"), nullable=False, unique=True),
        sa.Column("bento_tag", sa.Text, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sqlite_autoincrement=True,
    )
    refuse_changes("champions", "position = NEW.position OR decision_id = NEW.decision_id")
