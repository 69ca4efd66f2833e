"""Redis behind Sentinels: `sentinel://:password@host:26379/0;sentinel://host:26379`, as Celery writes it."""

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings

#: Default port of a Sentinel.
PORT = 26379


class SentinelAddress(NamedTuple):
    """Addresses of the Sentinels, and redis-py's arguments to log in to the Redis server that they name."""

    sentinels: list[tuple[str, int]]
    credentials: dict[str, Any]


def is_sentinel(url: str) -> bool:
    """Whether a URL names Sentinels instead of Redis itself."""
    return url.startswith("sentinel")


def read_address(url: str) -> SentinelAddress:
    """Read a checked URL. Database and password are those of its first part, as with kombu and Celery."""
    parts = [urlsplit(part) for part in url.split(";") if part]
    first = parts[0]
    credentials: dict[str, Any] = {"db": int(first.path.strip("/") or 0)}
    if first.username:
        credentials["username"] = unquote(first.username)
    if first.password:
        credentials["password"] = unquote(first.password)
    return SentinelAddress([(part.hostname or "127.0.0.1", part.port or PORT) for part in parts], credentials)


def sentinel_arguments(settings: "Settings", count: int) -> dict[str, Any]:
    """Return redis-py's arguments to connect to each of some Sentinels, whose password is not that of Redis.

    They share the timeout: they are asked one after the other, and the caller waits for all.
    """
    timeout = settings.connect_timeout / count
    arguments: dict[str, Any] = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
    if settings.sentinel_password is not None:
        arguments["password"] = settings.sentinel_password.get_secret_value()
    return arguments


def transport_options(settings: "Settings", url: str) -> dict[str, Any]:
    """Return the options with which kombu and Celery find the primary; none for a URL of Redis itself."""
    if not is_sentinel(url):
        return {}
    arguments = sentinel_arguments(settings, len(read_address(url).sentinels))
    return {"master_name": settings.sentinel_master, "sentinel_kwargs": arguments}
