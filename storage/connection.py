"""PostgreSQL connections of this product: pool, migrations, relay, client, command line, imports.

Each session sets what our code depends on, whatever defaults the server, database, role, URL or environment have. The
user's own choices (search_path, time-outs, application_name) stay, wherever they are made: in the URL, in PGOPTIONS and
the other variables of libpq, or in a service file.
"""

from typing import Any

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.abc import ConnParam
from psycopg.conninfo import make_conninfo

from pattern_storage.storage import conninfo
from pattern_storage.storage.errors import ServerUnavailable, StorageError
from pattern_storage.storage.setup_errors import ConninfoInvalid, DatabaseUnsuitable
from pattern_storage.storage.sql import block

#: Seconds that libpq and psycopg try one host at least.
MIN_CONNECT_TIMEOUT = 2

#: A host that vanished without a word is noticed within half a minute, not after hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}

#: A value that libpq refuses after it has collected all parameters, and before it connects.
_UNRESOLVED = "unresolved"


def parameters(database_url: str, *, application_name: str, timeout: float, keepalives: bool = False) -> dict[str, Any]:
    """Return psycopg's arguments besides the URL. Raises ConninfoInvalid.

    Args:
        database_url: a libpq connection URL or conninfo.
        application_name: what pg_stat_activity shows, unless the user has chosen a name.
        timeout: seconds until connecting fails, unless the user has set connect_timeout. Several hosts share them:
            one that accepts and stays silent leaves time for the next.
        keepalives: whether to notice a vanished host early, as for connections that wait for long.
    """
    check_conninfo(database_url)
    given = _resolve(database_url)
    hosts = max(len((given.get(name) or "").split(",")) for name in ("host", "hostaddr"))
    ours: dict[str, ConnParam] = {"connect_timeout": max(MIN_CONNECT_TIMEOUT, int(timeout / hosts))}
    if keepalives:
        ours |= KEEPALIVES
    chosen = {name: value for name, value in ours.items() if not given.get(name)}
    if given.get("service"):
        # psycopg does not read service files: it would take several hosts for one, and not know the time-out.
        names = ("host", "hostaddr", "port", "connect_timeout")
        chosen |= {name: given[name] for name in names if given.get(name)}
    return {"client_encoding": "UTF8", "fallback_application_name": application_name, **chosen}


def check_conninfo(database_url: str) -> None:
    """Raise ConninfoInvalid for a DATABASE_URL that no connection can be made with. Contacts no server."""
    if reason := conninfo.refusal(database_url):
        raise ConninfoInvalid(f"DATABASE_URL {reason}")


async def connect(
    database_url: str,
    *,
    application_name: str,
    timeout: float,  # of each host, by libpq
    prepare_threshold: int | None = None,
    keepalives: bool = False,
) -> AsyncConnection[Any]:
    """Return a new autocommit connection. Raises a StorageError, ServerUnavailable among them."""
    given = parameters(database_url, application_name=application_name, timeout=timeout, keepalives=keepalives)
    try:
        connection = await AsyncConnection.connect(
            database_url, autocommit=True, prepare_threshold=prepare_threshold, **given
        )
    except psycopg.OperationalError as error:
        raise _unavailable(error) from error
    try:
        await set_up(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


def connect_sync(
    database_url: str,
    *,
    application_name: str,
    timeout: float,
    statement_timeout: float = 0.0,
    keepalives: bool = False,
) -> psycopg.Connection[Any]:
    """Return a new connection outside of any transaction. Raises a StorageError, ServerUnavailable among them."""
    given = parameters(database_url, application_name=application_name, timeout=timeout, keepalives=keepalives)
    try:
        connection = psycopg.connect(database_url, prepare_threshold=None, **given)
    except psycopg.OperationalError as error:
        raise _unavailable(error) from error
    try:
        _check_encoding(connection)
        connection.execute(block("set_up_session"), _limits(statement_timeout, 0.0))
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _unavailable(error: psycopg.OperationalError) -> ServerUnavailable:
    # Not "connection lost": nothing was begun that could have been committed.
    return ServerUnavailable(f"cannot connect to PostgreSQL: {str(error).strip()}")


async def set_up(
    connection: AsyncConnection[Any], *, statement_timeout: float = 0.0, lock_timeout: float = 0.0
) -> None:
    """Set up a new session, in one round trip. Raises DatabaseUnsuitable.

    Time-outs, in seconds, are set only where the user has not set others for their connections.
    """
    _check_encoding(connection)
    await connection.execute(block("set_up_session"), _limits(statement_timeout, lock_timeout), prepare=False)


def check_database(database_url: str, *, timeout: float) -> None:
    """Raise ConninfoInvalid or DatabaseUnsuitable for a database that this product cannot use.

    Long-running services call this when they start. A server that cannot be reached now may be there later.
    """
    try:
        connect_sync(database_url, application_name="pattern-storage start", timeout=timeout).close()
    except (ConninfoInvalid, DatabaseUnsuitable):
        raise
    except (psycopg.Error, StorageError):
        return


def transaction_timeout(connection: psycopg.Connection[Any]) -> float | None:
    """Return the seconds after which the server ends any transaction of this session, None if it does not."""
    row = connection.execute(block("find_transaction_timeout")).fetchone()
    return None if row is None else row[0] / 1000


def milliseconds(seconds: float) -> str:
    """Return a time-out as PostgreSQL's text for it."""
    return str(round(seconds * 1000))


def _limits(statement_timeout: float, lock_timeout: float) -> dict[str, str | None]:
    limits = {"statement_timeout": statement_timeout, "lock_timeout": lock_timeout}
    return {name: milliseconds(seconds) if seconds else None for name, seconds in limits.items()}


def _check_encoding(connection: psycopg.Connection[Any] | AsyncConnection[Any]) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise DatabaseUnsuitable(connection.info.dbname, encoding)


def _resolve(database_url: str) -> dict[str, str]:
    """Return all parameters as libpq would use them, from URL, service file and environment. Contacts no server."""
    attempt = pq.PGconn.connect_start(make_conninfo(database_url, sslmode=_UNRESOLVED).encode())
    try:
        return {option.keyword.decode(): option.val.decode() for option in attempt.info if option.val}
    finally:
        attempt.finish()
