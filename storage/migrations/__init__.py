"""Alembic migrations: raw SQL, run through `storage.schema`."""
