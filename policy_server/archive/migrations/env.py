"""Run by alembic: applies the steps over the connection that `migrate` has opened."""

from __future__ import annotations

from alembic import context

from policy_server.archive.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
