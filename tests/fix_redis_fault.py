"""Consumers that are killed or cut off in the middle of a claim, each in a forked process of its own.

`python -m tests.fix_redis_fault` has everything imported and forks one for each case it reads: that takes 20 ms.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.asynchronous import Hub, set_event_loop
from redis.connection import AbstractConnection

from tests.fix_process import ROOT, clean_environment

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


@dataclass
class Case:
    """One consumer: reads `first` messages that are there, then `later` that come while it waits, then ends.

    Attributes:
        fault: `kill` the process, or `cut` the connection, around the command with number `at`.
        when: `before` the command is sent or `after`, when the server carries it out and nobody reads the answer.
        report: a file that gets a line for each message published, delivered and acknowledged.
    """

    url: str
    queue: str
    report: str
    loop: bool = False
    ahead: bool = False
    fault: str = ""
    when: str = "after"
    at: int = 0
    first: int = 2
    later: int = 1
    endless: bool = False


class Saboteur:
    """Counts the commands of this process, and strikes at one of them."""

    def __init__(self, case: Case) -> None:
        self.case, self.count, self.counting = case, 0, False
        commands: Any = AbstractConnection
        send = commands.send_packed_command

        def send_and_strike(connection: Any, *arguments: Any, **options: Any) -> None:
            self.count += self.counting
            due = self.counting and self.count == self.case.at
            if due and case.when == "before":
                self.strike(connection)
            send(connection, *arguments, **options)
            if due and case.when == "after":
                time.sleep(0.005)  # the server has carried it out by then
                self.strike(connection)

        commands.send_packed_command = send_and_strike

    def strike(self, connection: Any) -> None:
        self.counting = False
        if self.case.fault == "kill":
            os._exit(9)
        if self.case.fault == "cut" and connection._sock is not None:
            connection._sock.shutdown(socket.SHUT_RDWR)


def run(case: Case) -> None:
    """Consume as the case says, and report."""
    report = os.open(case.report, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    saboteur = Saboteur(case)
    delivered, acked, published = set(), set(), case.first
    held: list[Any] = []

    def tell(what: str, number: Any) -> None:
        os.write(report, f"{what} {number}\n".encode())

    def take(message: Any) -> None:
        tell("delivered", message.payload)
        delivered.add(message.payload)
        held.append(message)
        if not case.loop:
            finish()

    def finish() -> None:
        while held:
            message = held.pop(0)
            message.ack()
            acked.add(message.payload)
            tell("acked", message.payload)

    while len(acked) < case.first + case.later or case.endless:
        reader = None
        try:
            reader = Reader(case.url, [case.queue], take, loop=case.loop, claim_ahead=case.ahead, priority_steps=[0, 9])
            saboteur.counting = not case.endless and case.at >= saboteur.count
            reader.consumer.consume()
            idle = 0
            while len(acked) < case.first + case.later or case.endless:
                before = len(delivered)
                reader.step(0.01)
                finish()
                idle = 0 if len(delivered) > before else idle + 1
                if idle > 2 and not case.endless and published == case.first and case.later:
                    saboteur.counting, counting = False, saboteur.counting
                    publish(case.url, case.queue, range(published, published + case.later))
                    published += case.later
                    tell("published", published)
                    saboteur.counting = counting
                elif idle > 20 and not case.endless:
                    # What is left is recorded as unacknowledged: a sweep's business.
                    break
            reader.close()
            break
        except (*Connection(case.url).connection_errors,):
            saboteur.counting = False
            held.clear()
            if reader is not None:
                with suppress(Exception):
                    reader.close()
    tell("commands", saboteur.count)


def serve() -> None:
    """Fork for each case on standard input, answer with its process id; wait for those given by a number."""
    # What kombu would import when it is first needed, in each process anew.
    Connection("redis://", transport=OURS).transport  # noqa: B018
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])
        elif (answer := os.fork()) == 0:
            status = 1
            try:
                run(Case(**request))
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        print(answer, flush=True)  # noqa: T201


class Forge:
    """Starts consumers by their case."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self._directory = directory
        self._number = 0
        self._running: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fix_redis_fault"], cwd=ROOT, env=clean_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _ask(self, request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def case(self, queue: str, **fields: Any) -> Case:
        self._number += 1
        return Case(self.url, queue, str(self._directory / f"report-{self._number}"), **fields)

    def start(self, case: Case) -> int:
        """Return the process id."""
        self._running.add(pid := self._ask(asdict(case)))
        return pid

    def wait(self, pid: int) -> int:
        """Return the exit code."""
        self._running.discard(pid)
        return self._ask(pid)

    def run(self, case: Case) -> int:
        """Return the exit code."""
        return self.wait(self.start(case))

    def close(self) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def read_report(case: Case) -> dict[str, list[int]]:
    """What a consumer has reported, by word."""
    found: dict[str, list[int]] = {"published": [], "delivered": [], "acked": [], "commands": []}
    if Path(case.report).exists():
        for line in Path(case.report).read_text().splitlines():
            word, number = line.split()
            found[word].append(int(number))
    return found


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
def forge(redis_url: str, tmp_path: Path) -> Iterator[Forge]:
    """Starts consumers on this test's Redis."""
    with closing(Forge(tmp_path, redis_url)) as opened:
        yield opened


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    """A client to look at what is in this test's Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


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


if __name__ == "__main__":
    serve()
