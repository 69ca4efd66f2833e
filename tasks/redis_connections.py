"""Redis clients by their URL, which names the server or its Sentinels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from pattern_storage.config.sentinel import is_sentinel, read_address, sentinel_arguments
from pattern_storage.config.settings import Settings
from pattern_storage.config.urls import for_redis_py, is_socket
from pattern_storage.tasks.errors import ResultBackendUnavailable
from pattern_storage.tasks.redis_errors import explain_failure
from pattern_storage.tasks.redis_sentinels import AsyncSentinelGroup, AsyncSentinelPool, SentinelGroup, SentinelPool

#: A pooled connection may have died since its last use: one more attempt, at once, tells that from a dead server.
#: redis-py's own three come seconds apart.
ATTEMPTS_MORE = 1


def connect(settings: Settings, url: str | None = None, **options: Any) -> redis.Redis:
    """Return a client of the result backend, or of another URL; it connects when it is first used.

    `options` are redis-py's, of each connection.
    """
    address = url or settings.result_backend
    limits = _timeouts(settings, address)
    if not is_sentinel(address):
        limits = {"retry": Retry(NoBackoff(), ATTEMPTS_MORE), **limits, **options}
        return redis.Redis.from_url(for_redis_py(address), **limits)
    sentinels, credentials = read_address(address)
    asked = sentinel_arguments(settings, len(sentinels))
    manager = SentinelGroup(sentinels, sentinel_kwargs=asked, **{**limits, **options}, **credentials)
    return redis.Redis.from_pool(SentinelPool(settings.sentinel_master, manager, **manager.connection_kwargs))  # type: ignore[no-untyped-call]


def connect_async(settings: Settings, url: str | None = None, **options: Any) -> "redis.asyncio.Redis":
    """Return an asyncio client of the result backend, or of another URL; `options` as in `connect`."""
    address = url or settings.result_backend
    limits = _timeouts(settings, address)
    if not is_sentinel(address):
        limits = {"retry": AsyncRetry(NoBackoff(), ATTEMPTS_MORE), **limits, **options}
        return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool.from_url(for_redis_py(address), **limits))
    sentinels, credentials = read_address(address)
    asked = sentinel_arguments(settings, len(sentinels))
    manager = AsyncSentinelGroup(sentinels, sentinel_kwargs=asked, **{**limits, **options}, **credentials)
    # master_for would give its client a pool and not close it.
    pool = AsyncSentinelPool(settings.sentinel_master, manager, **manager.connection_kwargs)  # type: ignore[no-untyped-call]
    return redis.asyncio.Redis.from_pool(pool)


def _timeouts(settings: Settings, address: str) -> dict[str, Any]:
    """Return the timeouts of a connection to Redis itself; redis-py has none for connecting to a socket file."""
    names = ("socket_timeout",) if is_socket(address) else ("socket_connect_timeout", "socket_timeout")
    return dict.fromkeys(names, settings.connect_timeout)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate redis-py's errors into ResultBackendUnavailable."""
    try:
        yield
    except RedisError as error:
        raise ResultBackendUnavailable(explain_failure("the result backend", error)) from error
