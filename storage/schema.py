"""Migrations of the database schema: upgrade, downgrade, inspect. Safe from several processes at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import IsolationLevel
from psycopg.errors import FeatureNotSupported, UndefinedFile
from psycopg.sql import SQL, Literal
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pattern_storage.storage import schema_version
from pattern_storage.storage.connection import connect_sync
from pattern_storage.storage.errors import RightMissing, SchemaMismatch, StorageError
from pattern_storage.storage.setup_errors import RevisionUnknown, SchemaNewer
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate

#: Any number that nothing else of ours locks: the ASCII codes of "pattern".
MIGRATION_LOCK = 0x7061747465726E

#: Seconds until connecting fails.
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True)
class SchemaState:
    """The schema of the tables, its revision (None before the first), and the tables of that revision it lacks."""

    name: str
    revision: str | None
    missing: tuple[str, ...]
    #: Whether the revision is one of a newer release.
    newer: bool


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply every migration up to `revision`, each in its own transaction except where it builds an index online.

    The next call finishes a migration that was killed half-way. Tables are in the first schema of the search_path,
    which URL, PGOPTIONS, service file or role may set. Raises SchemaNewer, or another StorageError.
    """
    scripts = _scripts()
    with _changing(), _connected(database_url) as connection, _locked(database_url):
        schema = schema_version.creation_schema(connection)
        present = _read_known(connection, scripts, schema)
        if present and (missing := schema_version.missing_tables(connection, scripts, schema, present)):
            raise SchemaMismatch(
                f"{schema}.{schema_version.VERSION_TABLE} says {present}, but {', '.join(missing)} is missing in that"
                " schema; restore it from a backup"
            )
        command.upgrade(_config(connection), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Take migrations back down to `revision`, or to nothing for "base"; data in dropped tables is lost.

    Raises RevisionUnknown, SchemaNewer, or another StorageError.
    """
    scripts = _scripts()
    known = sorted(script.revision for script in scripts.walk_revisions())
    with _changing(), _connected(database_url) as connection, _locked(database_url):
        _read_known(connection, scripts, schema_version.creation_schema(connection))
        try:
            command.downgrade(_config(connection), revision)
        except CommandError:
            raise RevisionUnknown(revision, known) from None


def _read_known(connection: Connection, scripts: ScriptDirectory, schema: str) -> str | None:
    """Return the revision that this schema has. Raises SchemaNewer for one that this release does not have."""
    present = schema_version.read(connection, scripts, schema)
    if present is not None and not schema_version.is_known(scripts, present):
        raise SchemaNewer(present, head())
    return present


def current(database_url: str) -> str | None:
    """Return the revision of the tables that workers use, None before the first migration. Raises StorageError."""
    with _connected(database_url) as connection:
        return schema_version.read(connection, _scripts(), schema_version.installed_schema(connection))


def head() -> str:
    """Return the revision this version of the code needs."""
    revision = _scripts().get_current_head()
    if revision is None:
        raise StorageError("this installation has no migrations; install pattern-storage again")
    return revision


def tables() -> list[str]:
    """Return the names of all tables that the migrations create."""
    return [table for script in _scripts().walk_revisions() for table in schema_version.tables_of(script)]


def inspect(database_url: str) -> SchemaState:
    """Return the state of the schema that workers use. Raises StorageError."""
    scripts = _scripts()
    with _connected(database_url) as connection:
        name = schema_version.installed_schema(connection)
        revision = schema_version.read(connection, scripts, name)
        missing = schema_version.missing_tables(connection, scripts, name, revision) if revision else []
    newer = revision is not None and not schema_version.is_known(scripts, revision)
    return SchemaState(name, revision, tuple(missing), newer)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "pattern_storage.storage:migrations")
    config.set_main_option("path_separator", "os")
    return config


def connect(database_url: str) -> psycopg.Connection:
    """Return a connection that may change the schema. Raises StorageError."""
    return connect_sync(database_url, application_name="pattern-storage migrate", timeout=CONNECT_TIMEOUT)


@contextmanager
def _locked(database_url: str) -> Iterator[None]:
    """Hold the lock that lets one process migrate at a time, in a transaction of its own connection.

    The process that builds an index online waits for the end of every transaction that holds a snapshot at that moment.
    So a process that waits for the lock ends its transaction after each attempt, and the one that has the lock holds no
    snapshot between statements, whatever isolation the database has as its default. A lock of the session would need no
    transaction, but is lost in PgBouncer's transaction mode.
    """
    with connect(database_url) as holder:
        holder.isolation_level = IsolationLevel.READ_COMMITTED
        while not _try_lock(holder):
            holder.rollback()
            time.sleep(0.1)
        yield


def _try_lock(holder: psycopg.Connection) -> bool:
    # The transaction is idle for as long as a migration takes.
    holder.execute(block("lift_transaction_timeouts"))
    # The key stands in the text: a statement with parameters keeps its portal, and the snapshot, until the next.
    cursor = holder.execute(SQL("SELECT pg_try_advisory_xact_lock({})").format(Literal(MIGRATION_LOCK)))
    return cursor.fetchone() == (True,)


@contextmanager
def _changing() -> Iterator[None]:
    """Say why a migration failed: a user who has just run 'pattern-storage migrate' needs other advice than that."""
    try:
        yield
    except StorageError as error:
        cause = error.__cause__
        if not isinstance(cause, DBAPIError | psycopg.Error):
            raise
        driver = cause.orig if isinstance(cause, DBAPIError) else cause
        if not isinstance(driver, psycopg.Error) or driver.sqlstate is None:
            raise
        message = ". ".join(filter(None, (driver.diag.message_primary, driver.diag.message_hint)))
        if isinstance(error, RightMissing):
            raise RightMissing(
                f"this role may not change the schema: {message}; run migrate as the owner of the tables, or as a role"
                " that may CREATE in this schema and, for pg_trgm, in the database"
            ) from cause
        if isinstance(driver, UndefinedFile | FeatureNotSupported) and "pg_trgm" in message:
            raise SchemaMismatch(
                f"a migration failed: {message}; install the contrib modules of PostgreSQL, which have pg_trgm, on its"
                " server"
            ) from cause
        if isinstance(error, SchemaMismatch):
            raise SchemaMismatch(f"a migration failed, and left nothing: {message}") from cause
        raise


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    # psycopg opens the connection itself, so that every form of libpq's conninfo works.
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(database_url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise translate(error.orig if isinstance(error.orig, Exception) else error) from error
    except CommandError as error:
        # The database, or the caller, names a revision that this version does not have.
        raise SchemaMismatch(f"the database schema does not fit this version of pattern-storage: {error}") from error
    except psycopg.Error as error:
        raise translate(error) from error
