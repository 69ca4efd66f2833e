"""The server restarts, is full, forbids a command, moves behind Sentinel, or goes silent."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.embedded.account import server_account
from pattern_storage.embedded.binaries import find_valkey
from tests.fix_process import wait_until
from tests.fix_reader import Open, Reader, acknowledged, publish, sockets_in_child, where
from tests.fix_redis_fault import Forge, read_report
from tests.fix_servers import Store

#: Of Python 3.12: other threads may run while a test forks. The children do next to nothing.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def durable_valkey(server_directory: Path) -> Iterator[EmbeddedValkey]:
    """A server that keeps what it has over a restart."""
    with EmbeddedValkey(server_directory / f"durable-{time.monotonic_ns()}", durable=True) as server:
        yield server


def test_a_restart_of_the_server_loses_nothing(durable_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    jobs = 3_000
    with closing(Forge(tmp_path, durable_valkey.url)) as forge:
        cases = [forge.case("q", loop=loop, ahead=loop, endless=True) for loop in (True, False)]
        pids = [forge.start(case) for case in cases]

        def delivered() -> set[int]:
            return {number for case in cases for number in read_report(case)["delivered"]}

        publish(durable_valkey.url, "q", range(jobs))
        for share in (5, 3):
            wait_until(lambda share=share: len(delivered()) > jobs / share, "some were delivered")  # type: ignore[misc]
            durable_valkey.stop()
            durable_valkey.start()
        wait_until(lambda: delivered() == set(range(jobs)), "everything was delivered")
        for pid in pids:
            os.kill(pid, 9)
            forge.wait(pid)
        with redis.Redis.from_url(durable_valkey.url) as store:
            assert where(store, "q")["claimed"] == []


def test_a_full_server_is_still_emptied(lone_valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(lone_valkey.url) as store:
        publish(lone_valkey.url, "q", ["x" * 1_000] * 50)
        got: list[Any] = []
        reader = Reader(lone_valkey.url, ["q"], acknowledged(got), loop=True)
        store.config_set("maxmemory", "1")
        reader.consumer.consume()
        reader.steps(lambda: len(got) == 50)
        # BLMOVE is refused: it asks now and then instead, and does not spin.
        store.config_resetstat()
        for _ in range(20):
            reader.step()
        stats: dict[str, Any] = store.info("commandstats")
        assert stats.get("cmdstat_evalsha", {}).get("calls", 0) < 20
        store.config_set("maxmemory", "0")
        publish(lone_valkey.url, "q", [1])
        reader.steps(lambda: len(got) == 51)
        reader.close()


@pytest.mark.parametrize("refused", ["client|unblock", "client|tracking"])
def test_a_user_without_a_command_of_clients_can_consume(lone_valkey: EmbeddedValkey, refused: str) -> None:
    with redis.Redis.from_url(lone_valkey.url) as store:
        store.acl_setuser("plain", True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all"])
        store.execute_command("ACL", "SETUSER", "plain", f"-{refused}")
        url = urlsplit(lone_valkey.url)._replace(netloc=f"plain:secret@127.0.0.1:{urlsplit(lone_valkey.url).port}")
        got: list[Any] = []
        reader = Reader(url.geturl(), ["q"], got.append, prefetch=1, loop=True)
        reader.consumer.consume()
        for number in range(5):
            for _ in range(3):
                reader.step()
            publish(lone_valkey.url, "q", [number], priority=9 * (number % 2))
            reader.steps(lambda number=number: len(got) == number + 1)  # type: ignore[misc]
            got[-1].ack()
        reader.close()
        assert where(store, "q") == {"queue": [], "claimed": [], "unacked": []}


def test_a_server_that_becomes_a_replica_is_left(lone_valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(lone_valkey.url) as store:
        for busy in (False, True):
            reader = Reader(lone_valkey.url, ["q"], print, loop=True)
            reader.consumer.consume()
            for _ in range(0 if busy else 4):
                reader.step()
            store.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(redis.ConnectionError):
                reader.steps(lambda: False)
            store.execute_command("REPLICAOF", "NO", "ONE")
            with suppress(*reader.connection.connection_errors):
                reader.close()


def test_idle_connections_that_the_server_closes_come_back(store: Store, redis_url: str, read: Open) -> None:
    publish(redis_url, "q", [1])
    got: list[Any] = []
    reader = read(["q"], got.append, prefetch=1, loop=True)
    reader.steps(lambda: got)
    # At its limit: no command is out.
    store.client_kill_filter(_type="normal", skipme=True)
    for _ in range(3):
        reader.step()
    got[0].ack()
    publish(redis_url, "q", [2])
    reader.steps(lambda: len(got) == 2)


def test_a_server_that_says_nothing_is_noticed(read: Open) -> None:
    reader = read(["q"], print, loop=True, health_check_interval=1)
    for _ in range(5):
        reader.step()
    claims = reader.channel.claims
    pending = [each for each in claims.connections if each.pending]
    assert pending
    before = {each.connection._sock for each in pending}
    for each in pending:
        each.sent_at -= 60
    claims.drop_dead_connections(2.0)
    assert not any(each.pending for each in pending)
    for _ in range(3):
        reader.step()
    assert before.isdisjoint({each.connection._sock for each in pending})


def test_a_forked_child_leaves_the_claims_alone(store: Store, redis_url: str, read: Open) -> None:
    got: list[Any] = []
    reader = read(["q"], got.append, loop=True, claim_ahead=True)
    publish(redis_url, "q", [1])
    reader.steps(lambda: got)
    if (child := os.fork()) == 0:
        with suppress(BaseException):
            reader.channel._after_fork()
            reader.channel.claims.quiesce()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert where(store, "q")["unacked"] == [1]
    got[0].ack()
    publish(redis_url, "q", [2])
    reader.steps(lambda: len(got) == 2)


def test_sentinel(lone_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    parts = urlsplit(lone_valkey.url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor queue 127.0.0.1 {parts.port} 1\n"
        f"sentinel auth-pass queue {parts.password}\n"
    )
    program = find_valkey(tmp_path, server_account())
    with subprocess.Popen([program, configuration, "--sentinel"], stdout=subprocess.DEVNULL) as sentinel:
        try:
            with redis.Redis(port=port) as client:

                def knows() -> bool:
                    with suppress(redis.ConnectionError):
                        return bool(client.sentinel_masters())
                    return False

                wait_until(knows, "Sentinel answers")
            url = f"sentinel://:{parts.password}@127.0.0.1:{port}/0"
            publish(lone_valkey.url, "q", range(3))
            got: list[Any] = []
            reader = Reader(
                url, ["q"], acknowledged(got), loop=True, claim_ahead=True,
                transport="pattern_storage.tasks.transport.transport:SentinelTransport", master_name="queue",
            )  # fmt: skip
            reader.consumer.consume()
            reader.steps(lambda: len(got) == 3)
            # Those to Sentinel, too.
            before, after = sockets_in_child(reader)
            assert before
            assert not after
            publish(lone_valkey.url, "q", [3])
            reader.steps(lambda: len(got) == 4)
            reader.close()
        finally:
            sentinel.terminate()
