"""Alembic's entry: one connection, one advisory lock, one transaction for all steps."""

from alembic import context
from sqlalchemy import Connection, text

#: Any number that nothing else of ours locks: the ASCII codes of "pattern".
MIGRATION_LOCK = 0x7061747465726E

connection: Connection = context.config.attributes["connection"]
# Held until the transaction ends: a second process waits here and then finds nothing left to do.
connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
