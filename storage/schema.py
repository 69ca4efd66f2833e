"""The database schema's version: look at it, bring it up, take it down. Safe from several processes at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pattern_storage.storage.errors import RevisionUnknown, SchemaMismatch, ServerUnavailable, StorageError
from pattern_storage.storage.translation import translate


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply every migration up to `revision`, all in one transaction. Raises StorageError."""
    with _connected(database_url) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Take migrations back down to `revision`, or to nothing for "base"; data in dropped tables is lost.

    Raises RevisionUnknown, or another StorageError.
    """
    known = sorted(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())
    with _connected(database_url) as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        try:
            command.downgrade(_config(connection), revision)
        except CommandError:
            if present is not None and present not in known:
                raise
            raise RevisionUnknown(revision, known) from None


def current(database_url: str) -> str | None:
    """Return the revision the database has, None before the first migration. Raises StorageError."""
    with _connected(database_url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """Return the revision this version of the code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise StorageError("this installation has no migrations; install pattern-storage again")
    return revision


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "storage:migrations")
    config.set_main_option("path_separator", "os")
    return config


def connect(database_url: str) -> psycopg.Connection:
    """Return a connection that may change the schema. Raises ServerUnavailable."""
    try:
        return psycopg.connect(database_url, connect_timeout=10, application_name="pattern-storage migrate")
    except psycopg.OperationalError as error:
        # Not "connection lost": nothing was begun that could have been committed.
        raise ServerUnavailable(f"cannot connect to PostgreSQL: {str(error).strip()}") from error


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    # psycopg opens the connection itself, so that every form of libpq's conninfo works.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(database_url),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise translate(error.orig if isinstance(error.orig, Exception) else error) from error
    except CommandError as error:
        # The database, or the caller, names a revision that this version does not have.
        raise SchemaMismatch(f"the database schema does not fit this version of pattern-storage: {error}") from error
    except psycopg.Error as error:
        raise translate(error) from error
