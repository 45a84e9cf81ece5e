"""The prediction log: who answered, every prediction, true labels, labels asked for, models on trial."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "servings",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("task_id", sa.String(32), nullable=False),
        sa.Column("model_id", sa.String(32), nullable=False),
        sa.Column("bento_tag", sa.Text, nullable=False),
        sa.Column("release_id", sa.String(32), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_table(
        "predictions",
        _position(),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("serving_id", sa.BigInteger, nullable=False),
        sa.Column("predicted", sa.Integer, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.Column("statistics", sa.LargeBinary, nullable=False),
        sa.Column("image_id", sa.String(64), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "labels",
        _position(),
        sa.Column("prediction_id", sa.String(36), nullable=False, index=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "label_requests",
        _position(),
        sa.Column("prediction_id", sa.String(36), nullable=False, unique=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "trials",
        _position(),
        sa.Column("task_id", sa.String(32), nullable=False, index=True),
        sa.Column("model_id", sa.String(32), nullable=False),
        sa.Column("bento_tag", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )


def _position() -> sa.Column[int]:
    return sa.Column("position", POSITION, primary_key=True, autoincrement=True)
