"""What Alembic runs: the steps, on the connection and in the transaction that `Database.migrate` gives."""

from __future__ import annotations

from alembic import context

from pointsman.store.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # both databases can take a change of their tables back
)
with context.begin_transaction():
    context.run_migrations()
