"""Alembic's entry: migrates over the connection that ``fettle.store.sql.schema.upgrade`` hands in."""

from __future__ import annotations

from alembic import context

from fettle.store.sql.models import Base
from fettle.store.sql.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by rebuilding it
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
