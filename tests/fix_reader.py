"""Consumers in this process, one step at a time, and where their messages are in Redis."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.asynchronous import Hub, set_event_loop

OURS = "pattern_storage.tasks.transport.transport:Transport"


STOCK = "redis"


#: kombu's options under which what a dead worker held returns within seconds.
SOON = {
    "visibility_timeout": 3, "unacked_restore_interval": 1, "unacked_restore_throttle": 1, "unacked_mutex_expire": 5,
    "socket_timeout": 5.0,
}  # fmt: skip


def queues_of(*names: str) -> list[Queue]:
    return [Queue(name, Exchange(name, type="direct"), routing_key=name) for name in names]


def publish(url: str, queue: str, bodies: Any, transport: str = STOCK, **options: Any) -> None:
    """Publish these bodies in order."""
    [declared] = queues_of(queue)
    with Connection(url, transport=transport, transport_options=options.pop("transport_options", {})) as connection:
        producer: Any = Producer(connection.channel())
        declared(connection.default_channel).declare()
        with producer.batch(max_size=500):
            for body in bodies:
                producer.publish(body, exchange=declared.exchange, routing_key=queue, **options)


def acknowledged(bodies_seen: list[Any]) -> Callable[[Any], None]:
    """A consumer that notes bodies in a list and acknowledges at once."""

    def take(message: Any) -> None:
        bodies_seen.append(message.payload)
        message.ack()

    return take


class Reader:
    """A consumer on one connection, with an event loop (`loop`) or without; `step` lets it do one thing."""

    def __init__(
        self,
        url: str,
        names: list[str],
        on_message: Callable[[Any], None],
        *,
        loop: bool = False,
        transport: str = OURS,
        prefetch: int = 4,
        no_ack: bool = False,
        **options: Any,
    ) -> None:
        self.connection = Connection(url, transport=transport, transport_options=SOON | options)
        self.hub = Hub() if loop else None
        self.connection.connect()
        if self.hub is not None:
            set_event_loop(self.hub)
            self.connection.transport.register_with_event_loop(self.connection.connection, self.hub)
            self._turns = self.hub.create_loop()
        self.channel: Any = self.connection.channel()
        self.consumer = Consumer(
            self.channel, queues_of(*names), on_message=on_message, prefetch_count=prefetch, no_ack=no_ack
        )

    def step(self, timeout: float = 0.05) -> None:
        if self.hub is not None:
            self.hub.call_later(timeout, lambda: None)
            next(self._turns)
        else:
            with suppress(socket.timeout):
                self.connection.drain_events(timeout=timeout)

    def steps(self, until: Callable[[], Any], what: object = "", deadline: float = 20.0) -> None:
        end = time.monotonic() + deadline
        while not until():
            assert time.monotonic() < end, f"not in time: {what}"
            self.step()

    def close(self) -> None:
        self.connection.close()
        if self.hub is not None:
            set_event_loop(None)
            self.hub.close()


Open = Callable[..., Reader]


def bodies(raw_messages: Any) -> list[int]:
    """The bodies of messages as they are in Redis."""
    decoded = [json.loads(raw) for raw in raw_messages]
    channel: Any = Connection("memory://").channel()
    return [json.loads(channel.decode_body(one["body"], "base64")) for one in decoded]


def where(client: redis.Redis, queue: str) -> dict[str, list[int]]:
    """The bodies of a queue's messages by where they are."""
    keys = [key for step in ("", "\x06\x169") if client.exists(key := queue + step)]
    claimed = [key for step in ("", "\x06\x169") if client.exists(key := f"{queue}{step}.claimed")]
    book = [json.loads(entry) for entry in client.hvals("unacked")]
    return {
        "queue": [body for key in keys for body in bodies(client.lrange(key, 0, -1))],
        "claimed": [body for key in claimed for body in bodies(client.lrange(key, 0, -1))],
        "unacked": bodies(json.dumps(message) for message, _, routing_key in book if routing_key == queue),
    }


def waiting(client: redis.Redis) -> int:
    """How many connections wait on the server for a message."""
    return sum("b" in one["flags"] for one in client.client_list())


def sockets_in_child(reader: Reader) -> tuple[set[int], set[int]]:
    """Fork, and return the file numbers of the reader's sockets, and those still open in the child after its hook."""
    managers = [reader.channel._sentinel_manager, reader.channel._async_sentinel_manager]
    pools = [one.connection_pool for manager in managers if manager for one in manager.sentinels]
    pools += [reader.channel._pool, reader.channel._async_pool]
    connections = [one for pool in pools for one in (*pool._available_connections, *pool._in_use_connections)]
    before = {one._sock.fileno() for one in connections if one._sock is not None}
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        try:
            reader.channel._after_fork()
            after = []
            for number in before:
                with suppress(OSError):
                    os.fstat(number)
                    after.append(number)
            os.write(theirs, json.dumps(after).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        after = json.loads(answer.read())
    os.waitpid(child, 0)
    return before, set(after)


@pytest.fixture
def read(redis_url: str) -> Iterator[Callable[..., Reader]]:
    """Open a `Reader` on this test's Redis; it is closed at the end."""
    opened: list[Reader] = []

    def start(names: list[str], on_message: Callable[[Any], None], consume: bool = True, **options: Any) -> Reader:
        reader = Reader(redis_url, names, on_message, **options)
        opened.append(reader)
        if consume:
            reader.consumer.consume()
        return reader

    yield start
    for one in opened:
        one.close()
