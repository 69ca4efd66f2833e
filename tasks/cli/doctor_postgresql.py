"""Checks of PostgreSQL for `doctor`: they connect as a worker does, and do the work of one, rolled back."""

from collections.abc import Iterator
from contextlib import suppress

import psycopg

from pattern_storage.config.settings import Settings
from pattern_storage.storage import schema
from pattern_storage.storage.connection import connect, connect_sync, transaction_timeout
from pattern_storage.storage.errors import (
    DatabaseReadOnly,
    RightMissing,
    SchemaMismatch,
    ServerUnavailable,
    StorageError,
)
from pattern_storage.storage.rehearsal import rehearse
from pattern_storage.storage.setup_errors import DatabaseUnsuitable
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.database import check_database_url, run_sync

OLDEST_POSTGRESQL = 130_000

NAME = "pattern-storage doctor"


def check_postgresql(settings: Settings) -> Iterator[Finding]:
    """Yield findings about server, encoding, schema, tables and rights; each needs the one before.

    Raises SettingsInvalid for a URL that cannot be used.
    """
    check_database_url(settings)
    try:
        with connect_sync(settings.database, application_name=NAME, timeout=settings.connect_timeout) as connection:
            version, role = connection.info.server_version, connection.info.user
    except DatabaseUnsuitable as error:
        yield Finding("PostgreSQL", False, f"encoding {error.encoding}", str(error))
        return
    except StorageError as error:
        advice = "start PostgreSQL, or correct DATABASE_URL"
        yield Finding("PostgreSQL", False, str(error), advice, unreachable=isinstance(error, ServerUnavailable))
        return
    yield Finding(
        "PostgreSQL", version >= OLDEST_POSTGRESQL, f"version {version // 10_000}.{version % 100}",
        "" if version >= OLDEST_POSTGRESQL else "upgrade to PostgreSQL 13 or later",
    )  # fmt: skip
    migrations = _migrations(settings, role)
    yield migrations
    if migrations.ok:
        yield _jobs(settings, role)
        yield from _timeouts(settings)


def _migrations(settings: Settings, role: str) -> Finding:
    needed = schema.head()
    try:
        state = schema.inspect(settings.database)
    except StorageError as error:
        return Finding("migrations", False, str(error), _advice(error, role))
    found = f"{state.revision or 'none'}, needed {needed}"
    if state.missing:
        found = f"{state.revision}, but no table {', '.join(state.missing)} in the schema {state.name}"
        return Finding("migrations", False, found, "restore it from a backup, or correct the search_path")
    if state.revision == needed:
        return Finding("migrations", True, found)
    if state.newer:
        # Whether jobs go on is tested next: a migration only adds, so those of a release before it do.
        advice = "jobs go on if the line 'jobs' is ok; to migrate, install that release again"
        return Finding("migrations", True, f"{found}: the database is of a newer release", advice)
    if state.name != "public":
        found += f", in the schema {state.name}"
    return Finding("migrations", False, found, "run 'pattern-storage migrate'")


def _jobs(settings: Settings, role: str) -> Finding:
    async def rehearsal() -> None:
        opened = await connect(settings.database, application_name=NAME, timeout=settings.connect_timeout)
        async with opened as connection:
            await rehearse(connection)

    try:
        run_sync(rehearsal())
    except StorageError as error:
        return Finding("jobs", False, str(error), _advice(error, role))
    return Finding("jobs", True, f"their statements succeed as {role} (a test, rolled back)")


def _timeouts(settings: Settings) -> Iterator[Finding]:
    """Yield a finding if PostgreSQL ends transactions earlier than our settings do."""
    with suppress(StorageError, psycopg.Error):
        with connect_sync(settings.database, application_name=NAME, timeout=settings.connect_timeout) as connection:
            limit = transaction_timeout(connection)
        longest = max(settings.statement_timeouts.values())
        if limit is not None and limit < longest:
            yield Finding(
                "time-outs", False, f"transaction_timeout is {limit:g} s, and a job may take {longest:g} s",
                "raise it for this role, ALTER ROLE ... SET transaction_timeout, or lower"
                " PATTERN_STORAGE_STATEMENT_TIMEOUT and its kin",
            )  # fmt: skip


def _advice(error: StorageError, role: str) -> str:
    if isinstance(error, RightMissing):
        return f"as the owner of the tables run 'pattern-storage migrate --grant-to {role}'"
    if isinstance(error, DatabaseReadOnly):
        return "name the primary in DATABASE_URL, or let the role write: default_transaction_read_only = off"
    if isinstance(error, SchemaMismatch):
        return "run 'pattern-storage migrate', and look at what the line names"
    return "look at PostgreSQL's log"
