"""Alembic's entry: one connection, one advisory lock, one transaction for all steps."""

from alembic import context
from sqlalchemy import Connection, text

from pattern_storage.storage import schema_version

#: Any number that nothing else of ours locks: the ASCII codes of "pattern".
MIGRATION_LOCK = 0x7061747465726E

connection: Connection = context.config.attributes["connection"]
# Held until the transaction ends: a second process waits here and then finds nothing left to do.
connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
schema = schema_version.creation_schema(connection)
schema_version.adopt(connection, context.script, schema)
context.configure(
    connection=connection,
    transactional_ddl=True,
    version_table=schema_version.VERSION_TABLE,
    version_table_schema=schema,
)
with context.begin_transaction():
    context.run_migrations()
