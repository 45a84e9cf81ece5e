"""What Alembic runs; `flywheel.ledger.schema` calls it with an open transaction, and there is no other way in."""

from alembic import context

from flywheel.ledger.prediction_tables import LOGGED

context.configure(connection=context.config.attributes["connection"], target_metadata=LOGGED[0].metadata)
context.run_migrations()
