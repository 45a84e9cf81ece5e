"""The tables of the prediction log, in the ledger's database. They are no part of its hash chain: old predictions may
be removed, and the log takes thousands of rows a second."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table, Text

from flywheel.ledger.tables import UtcDateTime, metadata

# SQLite numbers its rows by INTEGER alone
_POSITION = BigInteger().with_variant(Integer, "sqlite")

servings = Table(
    "servings",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("task_id", String(32), nullable=False),
    Column("model_id", String(32), nullable=False),
    Column("bento_tag", Text, nullable=False),
    Column("release_id", String(32), nullable=False),
    Column("role", String(16), nullable=False),
    Column("worker", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("problem", Text, nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("at", BigInteger, nullable=False),
    Column("serving_id", BigInteger, nullable=False),
    Column("predicted", Integer, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),
    Column("embedding", LargeBinary, nullable=False),
    Column("statistics", LargeBinary, nullable=False),
    Column("image_id", String(64), nullable=False),
    Column("format", String(16), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("client", String(64), nullable=False),
    Column("kept", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

labels = Table(
    "labels",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("prediction_id", String(36), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("source", String(64), nullable=False),
    Column("client", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

label_requests = Table(
    "label_requests",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("prediction_id", String(36), nullable=False, unique=True),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

trials = Table(
    "trials",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("task_id", String(32), nullable=False, index=True),
    Column("model_id", String(32), nullable=False),
    Column("bento_tag", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("lease", String(64), nullable=False),
    sqlite_autoincrement=True,
)

LOGGED = (servings, predictions, labels, label_requests, trials)
