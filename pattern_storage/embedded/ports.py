"""TCP ports on 127.0.0.1 for servers whose clients hold the URL across restarts."""

import contextlib
import secrets
import socket
from pathlib import Path

from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import write_private

HOST = "127.0.0.1"

#: Below the range of outgoing ports (from 32768 on Linux, 49152 on macOS). A client that keeps trying to reach a
#: stopped server on a port in that range sooner or later connects to itself and occupies the port.
CANDIDATES = range(15_000, 32_000)


def port_for(file: Path, *, keep: bool = True) -> int:
    """Return the port written in `file` while it is free, else a new free one, which is then written there.

    It is not reserved: another program may take it before the server does. Then call this again with `keep=False`.
    Raises EmbeddedError if no free port was found.
    """
    if keep:
        with contextlib.suppress(FileNotFoundError, ValueError):
            port = int(file.read_text(encoding="ascii"))
            if 0 < port < 65_536 and is_free(port):
                return port
    for _ in range(200):
        port = CANDIDATES.start + secrets.randbelow(len(CANDIDATES))
        if is_free(port):
            write_private(file, f"{port}\n")
            return port
    raise EmbeddedError(f"Found no free TCP port on {HOST} from {CANDIDATES.start} to {CANDIDATES.stop - 1}.")


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers do the same: connections that linger after a restart do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
