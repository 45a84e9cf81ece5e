"""What Alembic runs; `flywheel.ledger.schema` calls it with an open transaction, and there is no other way in."""

from alembic import context

from flywheel.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
