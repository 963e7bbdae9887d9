"""Alembic's environment: runs on the connection that `OpsStore.migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from adinsights_orchestration.ops_store import alert_tables, audit_tables  # noqa: F401  (belong to the schema)
from adinsights_orchestration.ops_store.tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
