"""Alembic's entry: one connection, and a transaction for each migration, which may leave it (see online.py)."""

from alembic import context
from sqlalchemy import Connection

from pattern_storage.storage import schema_version

connection: Connection = context.config.attributes["connection"]
schema = schema_version.creation_schema(connection)
schema_version.adopt(connection, context.script, schema)
connection.commit()  # Alembic would take what was begun here for a transaction around all migrations
context.configure(
    connection=connection,
    transactional_ddl=True,
    transaction_per_migration=True,
    version_table=schema_version.VERSION_TABLE,
    version_table_schema=schema,
)
with context.begin_transaction():
    context.run_migrations()
