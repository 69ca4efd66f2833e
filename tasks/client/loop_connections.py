"""Redis connections of an asyncio client, which belong to one event loop of one process."""

import asyncio
import os

from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.listener import ResultListener
from pattern_storage.tasks.client.publisher import PLAIN, is_direct
from pattern_storage.tasks.client.redis_publisher import AsyncRedisPublisher

#: Concurrent lookups in PostgreSQL. Each opens a connection, of which the workers need most.
MAX_DATABASE_CONNECTIONS = 4

#: Connections of a parent process. They are kept because collecting them would unregister the parent's sockets from
#: the selector that both processes share.
_inherited: list["LoopConnections"] = []


class LoopConnections:
    """Connections that an asyncio client keeps open. Construct it on the running event loop that will use it."""

    def __init__(self, settings: Settings) -> None:
        self.loop = asyncio.get_running_loop()
        self.process_id = os.getpid()
        results = redis_connections.connect_async(settings, **PLAIN)
        self.listener = ResultListener(results, settings.connect_timeout)
        self.database_slots = asyncio.Semaphore(MAX_DATABASE_CONNECTIONS)
        #: None if only kombu can publish.
        self.publisher: AsyncRedisPublisher | None = None
        if is_direct(settings):
            same = settings.broker == settings.result_backend
            broker = redis_connections.connect_async(settings, settings.broker, **PLAIN)
            other = None if same else redis_connections.connect_async(settings, **PLAIN)
            self.publisher = AsyncRedisPublisher(broker, other, settings)

    async def close(self) -> None:
        """Close all connections, unless they belong to a parent process or to a loop that is closed already."""
        if self.process_id == os.getpid() and not self.loop.is_closed():
            await self.listener.close()
            if self.publisher is not None:
                await self.publisher.close()


def reuse_or_open(connections: LoopConnections | None, settings: Settings) -> LoopConnections:
    """Return these connections, or new ones in a forked process or after their event loop was closed.

    Raises RuntimeError on another event loop while the first is still open.
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
