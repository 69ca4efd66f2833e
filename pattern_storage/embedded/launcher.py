"""Launcher of programs that end with this process, and run as another user if this one is root's."""

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.process import ServerProcess

_Child = subprocess.Popen[str]
_Order = tuple[Callable[[], _Child], Future[_Child]]

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

# Loaded before any fork: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class _LauncherThread:
    """The thread that forks all servers.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process: a server that a short-lived thread
    started would die with it. This thread is a daemon that ends with the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._owner = 0

    def run(self, start: Callable[[], _Child]) -> _Child:
        with self._lock:
            if self._owner != os.getpid():  # the first time, or the first time in a forked child
                self._owner = os.getpid()
                self._orders = queue.SimpleQueue()
                threading.Thread(target=_serve, args=(self._orders,), name="server-launcher", daemon=True).start()
        answer: Future[_Child] = Future()
        self._orders.put((start, answer))
        return answer.result()


def _serve(orders: "queue.SimpleQueue[_Order]") -> None:
    while True:
        start, answer = orders.get()
        try:
            answer.set_result(start())
        except BaseException as error:  # raised again in the thread that waits
            answer.set_exception(error)
        del start, answer  # or the last child is kept alive as an object until the next order


_launcher = _LauncherThread()


def launch(
    name: str,
    arguments: Sequence[str | Path],
    *,
    account: Account,
    log: ServerLog,
    death_signal: signal.Signals,
    stdin: str | None = None,
    directory: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Start a program in a session of its own, which keeps a terminal's Ctrl-C from it.

    On Linux the kernel sends it `death_signal` when this process dies. Elsewhere it is left running then, and the
    next start in its directory stops it.

    Args:
        name: Its name in messages.
        arguments: The program and its arguments.
        account: The account that runs it.
        log: The file of its output; this process opens it, so `account` needs no right to it.
        death_signal: The signal that it receives when this process ends without having stopped it.
        stdin: Text for its standard input.
        directory: Its working directory.
        environment: All its variables; by default the few that a server needs.

    Raises EmbeddedError if the program cannot be started.
    """
    parent = os.getpid()

    def tie_to_parent() -> None:
        # Runs after the change of user, which would clear the setting.
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    def start() -> _Child:
        with log.open() as output, warnings.catch_warnings():
            # Python 3.12 and later warn of a fork beside threads; this child calls two C functions and execs.
            warnings.simplefilter("ignore", DeprecationWarning)
            return subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=directory,
                env=_environment() if environment is None else environment,
                start_new_session=True,
                user=account.uid if account.switched else None,
                group=account.gid if account.switched else None,
                extra_groups=[] if account.switched else None,
                umask=0o077,
                preexec_fn=tie_to_parent if _libc is not None else None,
            )

    try:
        child = _launcher.run(start)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(
            f"Cannot start {arguments[0]} as user {account.uid}: {error}. Run as an ordinary user, or set "
            "DATABASE_URL and REDIS_URL to servers of your own."
        ) from error
    if stdin is not None and child.stdin is not None:
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(stdin)
    return ServerProcess(name, child, log)


def _environment() -> Mapping[str, str]:
    """Return no PG* variables, which change what the programs do, and no secrets, which `nobody` could read."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}
