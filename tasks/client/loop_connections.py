"""Redis connections of an asyncio client: they belong to one event loop of one process."""

import asyncio
import os
from typing import Any

from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.listener import ResultListener
from pattern_storage.tasks.client.publisher import PLAIN, is_direct
from pattern_storage.tasks.client.redis_publisher import AsyncRedisPublisher

#: Connections to each server: one of the result backend's is subscribed, the others read and publish.
MAX_CONNECTIONS = 10

#: Lookups in PostgreSQL at the same time: each opens a connection, which workers need more.
MAX_DATABASE_CONNECTIONS = 4

#: Those of a parent process. Collecting them would close its sockets' entries in the event loop that both share.
_inherited: list["LoopConnections"] = []


class LoopConnections:
    """What an asyncio client keeps open. Construct it on the running event loop that will use it."""

    def __init__(self, settings: Settings) -> None:
        self.loop = asyncio.get_running_loop()
        self.process_id = os.getpid()
        self.results = redis_connections.connect_async(settings, max_connections=MAX_CONNECTIONS)
        self.listener = ResultListener(self.results, settings.key_prefix)
        self.database_slots = asyncio.Semaphore(MAX_DATABASE_CONNECTIONS)
        #: None where only kombu can publish.
        self.publisher: AsyncRedisPublisher | None = None
        if is_direct(settings):
            # Each keeps one connection of its own.
            options: dict[str, Any] = {"max_connections": 1, **PLAIN}
            same = settings.broker == settings.result_backend
            broker = redis_connections.connect_async(settings, settings.broker, **options)
            other = None if same else redis_connections.connect_async(settings, **options)
            self.publisher = AsyncRedisPublisher(broker, other, settings)

    async def close(self) -> None:
        """Close all connections; those of a parent process, or of a loop that is closed, are gone already."""
        if self.process_id == os.getpid() and not self.loop.is_closed():
            await self.listener.close()
            if self.publisher is not None:
                await self.publisher.close()
            await self.results.aclose()


def current(connections: LoopConnections | None, settings: Settings) -> LoopConnections:
    """Return these connections, or new ones in a forked process or after their loop was closed.

    Raises RuntimeError on a second event loop while the first goes on.
    """
    if connections is not None:
        if connections.process_id != os.getpid():
            _inherited.append(connections)
        elif not connections.loop.is_closed():
            if connections.loop is not asyncio.get_running_loop():
                raise RuntimeError(
                    "this AsyncPatternStorageClient is open on another event loop; open one client for each loop"
                )
            return connections
    return LoopConnections(settings)
