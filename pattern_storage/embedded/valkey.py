"""Embedded Valkey server."""

import contextlib
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_valkey
from pattern_storage.embedded.files import write_private
from pattern_storage.embedded.ports import HOST
from pattern_storage.embedded.process import ServerProcess
from pattern_storage.embedded.server import START_TIMEOUT, EmbeddedServer


class EmbeddedValkey(EmbeddedServer):
    """Valkey, which speaks the Redis protocol, as broker and result store.

    It appends every write to a file that is flushed each second: a power cut loses a second at most, a crash of the
    server nothing. With `durable=False` all is in memory alone. See `EmbeddedServer`.
    """

    NAME = "Valkey"
    PORT_TAKEN = "Address already in use"
    EXECUTABLES = ("valkey", "redis")
    STOP_SIGNALS = (signal.SIGTERM,)

    def _command(self, account: Account, port: int, password: str) -> Sequence[str | Path]:
        settings = {
            "bind": HOST,
            "port": str(port),
            "protected-mode": "yes",
            "requirepass": password,
            "dir": _quoted(self._data),
            # Valkey rewrites its command line, so an operator finds it by this file.
            "pidfile": _quoted(self._data / "valkey.pid"),
            "daemonize": "no",
            # A queue may refuse a job, never drop one.
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            # No snapshots beside the append-only file.
            "save": '""',
        }
        configuration = self.directory / "valkey.conf"
        write_private(configuration, "".join(f"{name} {value}\n" for name, value in settings.items()), account)
        return [find_valkey(self._copies, account), configuration]

    def _wait_ready(self, process: ServerProcess, port: int, password: str) -> None:
        process.wait_ready(lambda: _answers(port, password), timeout=START_TIMEOUT)

    def _url(self, port: int, password: str) -> str:
        return f"redis://:{password}@{HOST}:{port}/0"


def _quoted(path: Path) -> str:
    """Return the path as a configuration file has it, with quotes and backslashes escaped."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _answers(port: int, password: str) -> bool:
    """Return whether a server there takes the password and answers a PING; it does not while it loads its file."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        answer = b""
        while answer.count(b"\n") < 2 and (part := connection.recv(1024)):
            answer += part
        return answer == b"+OK\r\n+PONG\r\n"
    return False
