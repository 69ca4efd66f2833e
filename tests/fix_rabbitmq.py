"""A real RabbitMQ of Debian's package, as a process of the test: nothing of the machine's own is touched."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import amqp
import pytest

from tests.fix_process import ProcessGroup, clean_environment, free_port, needs

PASSWORD = "a password of the test's own"
STARTED = "Server startup complete"
#: Seconds; on a busy machine it takes half a minute.
START_TIMEOUT = 240.0
CONFIGURATION = """
listeners.tcp.default = 127.0.0.1:{port}
default_user = pattern_storage
default_pass = {password}
log.console = true
log.file = false
"""


class RabbitMQ:
    """One node with the name daemon that Erlang needs."""

    def __init__(self, directory: Path) -> None:
        needs("rabbitmq-server")
        self.port, names = free_port(), str(free_port())
        (directory / "rabbitmq.conf").write_text(CONFIGURATION.format(port=self.port, password=PASSWORD))
        environment = clean_environment(
            HOME=str(directory),  # for the cookie
            ERL_EPMD_PORT=names, ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=f"test{self.port}@localhost", RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_MNESIA_BASE=str(directory / "data"), RABBITMQ_LOG_BASE=str(directory / "log"),
            RABBITMQ_CONFIG_FILE=str(directory / "rabbitmq"), RABBITMQ_CONF_ENV_FILE=str(directory / "none"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "plugins"),
        )  # fmt: skip
        # Ours, in the foreground: RabbitMQ would start one that outlives it.
        log = directory / "epmd.log"
        self._names = ProcessGroup(
            "epmd", ["-port", names, "-address", "127.0.0.1"], environment, log, program=["epmd"]
        )
        # Not /usr/sbin's, which would change to the account of the machine's own server.
        program = ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
        self.server = ProcessGroup("rabbitmq", [], environment, directory / "rabbitmq.log", program=program)
        self.server.wait_for(STARTED, START_TIMEOUT)

    @property
    def url(self) -> str:
        return f"amqp://pattern_storage:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}//"

    def restart(self) -> None:
        """Kill the node, whatever it is doing, and start it again."""
        self.server.kill()
        self.server.start()
        self.server.wait_for(STARTED, START_TIMEOUT)

    def waiting(self, queue: str) -> int:
        """How many messages are ready in a queue, which has to exist."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel on a connection of its own."""
        with amqp.Connection(f"127.0.0.1:{self.port}", userid="pattern_storage", password=PASSWORD) as connection:
            yield connection.channel()

    def close(self) -> None:
        # Nobody will ever read what it would still write.
        self.server.kill()
        self.server.discard()
        self._names.discard()


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ for the tests of a module."""
    directory = Path(tempfile.mkdtemp(prefix="pattern-storage-rabbitmq-"))
    try:
        with closing(RabbitMQ(directory)) as server:
            yield server
    finally:
        shutil.rmtree(directory)
