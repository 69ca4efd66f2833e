"""Redis connections, whether the URL names the server or its Sentinels."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from pattern_storage.config.sentinel import is_sentinel, read_address, sentinel_arguments
from pattern_storage.config.settings import Settings
from pattern_storage.config.urls import for_redis_py, is_socket
from pattern_storage.tasks.errors import ResultBackendUnavailable

#: A pooled connection may have died since its last use: one more attempt, at once, tells that from a dead server.
#: redis-py's own three come seconds apart.
ATTEMPTS_MORE = 1


def connect(settings: Settings, url: str | None = None, **options: Any) -> redis.Redis:
    """Return a client of the result backend, or of another URL; it connects when it is first used.

    `options` are redis-py's, of each connection.
    """
    address = url or settings.result_backend
    timeout = settings.connect_timeout
    limits: dict[str, Any] = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
    if is_socket(address):
        del limits["socket_connect_timeout"]
    if not is_sentinel(address):
        limits = {"retry": Retry(NoBackoff(), ATTEMPTS_MORE), **limits, **options}
        return redis.Redis.from_url(for_redis_py(address), **limits)
    sentinels, credentials = read_address(address)
    asked = sentinel_arguments(settings) | {"retry": Retry(NoBackoff(), 0)} | _shared_timeout(timeout, len(sentinels))
    manager = SentinelGroup(sentinels, sentinel_kwargs=asked, **{**limits, **options}, **credentials)
    return redis.Redis.from_pool(SentinelPool(settings.sentinel_master, manager, **manager.connection_kwargs))  # type: ignore[no-untyped-call]


def _shared_timeout(seconds: float, sentinels: int) -> dict[str, float]:
    """Return the timeout of each Sentinel: they are asked one after the other, and the caller waits for all."""
    return dict.fromkeys(("socket_connect_timeout", "socket_timeout"), seconds / sentinels)


def _all_again(sentinels: tuple[Any, ...], now: list[Any]) -> list[Any]:
    """Return all Sentinels, the one that answered last in front.

    redis-py moves it there by its place in the list. Of two that ask at once and pass over the first Sentinel, the
    second writes over it, so that it is never asked again, and never closed.
    """
    return [now[0], *(one for one in sentinels if one is not now[0])]


class SentinelGroup(redis.sentinel.Sentinel):
    """redis-py's Sentinels, of which several threads may ask at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._all = tuple(self.sentinels)

    def discover_master(self, service_name: str) -> Any:
        """Ask them for the primary."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        finally:
            self.sentinels = _all_again(self._all, self.sentinels)

    def close(self) -> None:
        """Close the connections to all of them."""
        for one in self._all:
            one.close()


class SentinelPool(redis.sentinel.SentinelConnectionPool):
    """A pool of connections to the primary."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; if it is all of them, those to the Sentinels too, which redis-py leaves open."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class AsyncSentinelGroup(redis.asyncio.sentinel.Sentinel):
    """redis-py's Sentinels, of which several coroutines may ask at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._all = tuple(self.sentinels)

    async def discover_master(self, service_name: str) -> Any:
        """Ask them for the primary."""
        try:
            return await super().discover_master(service_name)
        finally:
            self.sentinels = _all_again(self._all, self.sentinels)

    async def aclose(self) -> None:
        """Close the connections to all of them."""
        await asyncio.gather(*(one.aclose() for one in self._all), return_exceptions=True)


class BlockingSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """A bounded pool of connections to the primary: a caller waits while all are in use."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; if it is all of them, those to the Sentinels too, which redis-py leaves open."""
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:
                await self.sentinel_manager.aclose()


def connect_async(
    settings: Settings, url: str | None = None, *, max_connections: int, **options: Any
) -> "redis.asyncio.Redis":
    """Return an asyncio client of the result backend, or of another URL; `options` as in `connect`.

    A thousand coroutines that ask at once share its connections instead of opening their own.
    """
    address, timeout = url or settings.result_backend, settings.connect_timeout
    limits: dict[str, Any] = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
    shared: dict[str, Any] = {"max_connections": max_connections, "timeout": timeout}
    if is_socket(address):
        del limits["socket_connect_timeout"]
    if not is_sentinel(address):
        limits = {"retry": AsyncRetry(NoBackoff(), ATTEMPTS_MORE), **limits, **options}
        return redis.asyncio.Redis.from_pool(
            redis.asyncio.BlockingConnectionPool.from_url(for_redis_py(address), **limits, **shared)
        )
    sentinels, credentials = read_address(address)
    asked = sentinel_arguments(settings) | {"retry": AsyncRetry(NoBackoff(), 0)}
    manager = AsyncSentinelGroup(
        sentinels,
        sentinel_kwargs=asked | _shared_timeout(timeout, len(sentinels)),
        **{**limits, **options},
        **credentials,
    )
    # master_for would give its client a pool without a bound, and would not close it.
    pool = BlockingSentinelPool(settings.sentinel_master, manager, **manager.connection_kwargs, **shared)  # type: ignore[no-untyped-call]
    return redis.asyncio.Redis.from_pool(pool)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate redis-py's errors into ResultBackendUnavailable."""
    try:
        yield
    except RedisError as error:
        raise ResultBackendUnavailable(f"the result backend does not answer: {error}") from error
