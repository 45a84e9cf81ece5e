"""Who holds what, beside the ledger's chain: these rows say who works at something now, not what was decided."""

from sqlalchemy import JSON, BigInteger, Column, String, Table

from flywheel.ledger.tables import UtcDateTime, metadata

claims = Table(
    "claims",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

tallies = Table(
    "tallies",
    metadata,
    Column("serving_id", BigInteger, primary_key=True, autoincrement=False),
    Column("answers", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

HELD = (claims, leases, tallies)
