"""Redis clients of a channel: one is kept for commands; connections that wait for messages are polled."""

from functools import cached_property
from typing import Any

from redis import Redis

from pattern_storage.tasks.redis_errors import patient_class
from pattern_storage.tasks.transport.kombu_parts import redis
from pattern_storage.tasks.transport.polled_connection import polled_class


class ChannelClients(redis.Channel):  # type: ignore[misc]  # kombu's is untyped
    """kombu's channel, except for its clients."""

    _kept_client: Any = None
    _kept_plain_client: Any = None

    def _connparams(self, asynchronous: bool = False) -> Any:
        parameters = super()._connparams(asynchronous)
        parameters["connection_class"] = patient_class(parameters["connection_class"])
        if asynchronous:
            parameters["connection_class"] = polled_class(parameters["connection_class"], self)
            # RESP2 has no messages that do not reply to a command, as `key_watch` needs; redis-py before 8 prefers it.
            parameters["protocol"] = 3
        return parameters

    def leave_poller(self, connection: Any) -> None:
        """Unregister a connection that is about to be closed from the poller."""
        # The same conditions as kombu has for a connection that has been closed.
        if self._registered and self.connection and self.connection.cycle and connection._sock is not None:
            self.connection.cycle.unregister(connection._sock)

    def leave_no_connection_open(self) -> None:
        """Close what kombu has opened again to hand messages back, after it had closed all: else nobody would.

        The pool stays, for jobs of this connection that end later: without it they could not be acknowledged.
        """
        if self._pool is not None:
            self._pool.disconnect()
        # redis-py has this since 8.1.
        if hasattr(self._sentinel_manager, "close"):
            self._sentinel_manager.close()

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client. The one for commands is kept; kombu builds one for every message."""
        if asynchronous:
            return super()._create_client(asynchronous)
        # After a fork or a close there is another pool.
        if self._kept_client is None or self._kept_client.connection_pool is not self.pool:
            self._kept_client = super()._create_client()
        return self._kept_client

    @cached_property
    def client(self) -> Any:
        """The client for commands; kombu's would keep a connection to itself for its BRPOP."""
        return self._create_client()

    @property
    def plain_client(self) -> Any:
        """A client that puts no prefix before keys; kombu's would prefix only the first key of a script."""
        if self._kept_plain_client is None or self._kept_plain_client.connection_pool is not self.pool:
            provider = self.pool.connection_kwargs.get("credential_provider")
            self._kept_plain_client = Redis(connection_pool=self.pool, credential_provider=provider)
        return self._kept_plain_client

    @property
    def async_pool(self) -> Any:
        """The pool of polled connections, without a limit: there are no more than queues and priorities."""
        pool = super().async_pool
        pool.max_connections = max(pool.max_connections, 1 << 20)
        return pool
