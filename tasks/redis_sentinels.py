"""Redis Sentinels that several callers may ask at once, and pools of connections to the primary."""

import asyncio
from copy import copy
from typing import Any

import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry


class SentinelGroup(redis.sentinel.Sentinel):
    """redis-py's Sentinels, except that each search for the primary has a list of its own.

    redis-py moves the Sentinel that answered to the front of a list that all searches share, by its place there. Of two
    searches at once, one can overwrite a Sentinel in the list, which is then never asked again and never closed, or
    ask one Sentinel twice and pass over the one that knows the primary.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self.forbid_retries()

    def forbid_retries(self) -> None:
        """Ask each Sentinel once: redis-py's retries come seconds apart, and the next Sentinel answers at once."""
        for sentinel in self.sentinels:
            sentinel.set_retry(Retry(NoBackoff(), 0))

    def discover_master(self, service_name: str) -> Any:
        """Return the address of the primary. Asks the Sentinel that answered last before the others."""
        search = copy(self)
        search.sentinels = list(self.sentinels)
        address = redis.sentinel.Sentinel.discover_master(search, service_name)  # type: ignore[no-untyped-call]
        self.sentinels = search.sentinels
        return address

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
        """Return the address of the primary. Asks the Sentinel that answered last before the others."""
        search = copy(self)
        search.sentinels = list(self.sentinels)
        address = await redis.asyncio.sentinel.Sentinel.discover_master(search, service_name)
        self.sentinels = search.sentinels
        return address

    async def aclose(self) -> None:
        """Close the connections to all Sentinels."""
        await asyncio.gather(*(sentinel.aclose() for sentinel in self.sentinels), return_exceptions=True)


class SentinelPool(redis.sentinel.SentinelConnectionPool):
    """A pool of connections to the primary."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; if it is all of them, those to the Sentinels too, which redis-py leaves open."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class BlockingSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """A bounded pool of connections to the primary: a caller waits while all are in use."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; if it is all of them, those to the Sentinels too, which redis-py leaves open."""
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:
                await self.sentinel_manager.aclose()
