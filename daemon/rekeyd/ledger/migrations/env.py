"""Runs the migrations on the connection, and in the transaction, that rekeyd gives alembic."""

from alembic import context

from rekeyd.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
