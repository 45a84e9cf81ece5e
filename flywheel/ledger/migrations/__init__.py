"""The ledger's tables through time, by Alembic: one file a step in `versions/`, each written once and never changed."""
