"""Redis Sentinels that several callers may ask at once, and pools of connections to the primary."""

import asyncio
from typing import Any

import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError


class SentinelGroup(redis.sentinel.Sentinel):
    """redis-py's Sentinels with another search for the primary.

    redis-py moves the Sentinel that answered to the front by its place in a list that all searches share. Of two
    searches at once, one can overwrite a Sentinel in the list, which is then never asked again and never closed, or
    ask one Sentinel twice and pass over the one that knows the primary. And its error shows the arguments of the
    connections: a page for each Sentinel, before version 8 with the password.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self.forbid_retries()

    def forbid_retries(self) -> None:
        """Ask each Sentinel once: redis-py's retries come seconds apart, and the next Sentinel answers at once."""
        for sentinel in self.sentinels:
            sentinel.set_retry(Retry(NoBackoff(), 0))

    def discover_master(self, service_name: str) -> Any:
        """Return host and port of the primary. Raises MasterNotFoundError, which has a reason for each Sentinel."""
        reasons = []
        for sentinel in self.sentinels:
            try:
                states: Any = sentinel.sentinel_masters()
            except RedisError as error:
                reasons.append(_reason(sentinel, error))
                continue
            state = states.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                self.sentinels = _first(sentinel, self.sentinels)
                return state["ip"], state["port"]
            reasons.append(_reason(sentinel, "the primary is down" if state else "no such primary"))
        raise _not_found(service_name, reasons)

    def close(self) -> None:
        """Close the connections to all Sentinels; redis-py does it from version 8.1 on."""
        for sentinel in self.sentinels:
            sentinel.close()


class AsyncSentinelGroup(redis.asyncio.sentinel.Sentinel):
    """The same for asyncio."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        for sentinel in self.sentinels:
            sentinel.set_retry(AsyncRetry(NoBackoff(), 0))

    async def discover_master(self, service_name: str) -> Any:
        """Return host and port of the primary. Raises MasterNotFoundError, which has a reason for each Sentinel."""
        reasons = []
        for sentinel in self.sentinels:
            try:
                states: Any = await sentinel.sentinel_masters()
            except RedisError as error:
                reasons.append(_reason(sentinel, error))
                continue
            state = states.get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels = _first(sentinel, self.sentinels)
                return state["ip"], state["port"]
            reasons.append(_reason(sentinel, "the primary is down" if state else "no such primary"))
        raise _not_found(service_name, reasons)

    async def aclose(self) -> None:
        """Close the connections to all Sentinels."""
        await asyncio.gather(*(sentinel.aclose() for sentinel in self.sentinels), return_exceptions=True)


def _first(sentinel: Any, sentinels: list[Any]) -> list[Any]:
    """Return another list, since a search may be reading this one."""
    return [sentinel, *(other for other in sentinels if other is not sentinel)]


def _reason(sentinel: Any, reason: object) -> str:
    address = sentinel.connection_pool.connection_kwargs
    return f"{address['host']}:{address['port']}: {reason}"


def _not_found(service_name: str, reasons: list[str]) -> MasterNotFoundError:
    return MasterNotFoundError(f"no Sentinel names the primary {service_name!r} ({'; '.join(reasons)})")


class SentinelPool(redis.sentinel.SentinelConnectionPool):
    """A pool of connections to the primary."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; if it is all of them, those to the Sentinels too, which redis-py leaves open."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """The same for asyncio."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; if it is all of them, those to the Sentinels too, which redis-py leaves open."""
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:
                await self.sentinel_manager.aclose()
