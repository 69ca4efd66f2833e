"""Termination of servers that a dead process left running, and of process trees."""

import contextlib
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

POLL = 0.005  # seconds


def stop_orphans(directory: Path, executables: Sequence[str], polite: signal.Signals) -> None:
    """Stop servers that a dead parent left running in `directory`.

    They are recognized by program and working directory, which both servers set to their data directory. Pid files
    are not trusted: after a crash the id in one may belong to any process.

    Args:
        directory: Data directory of the server. The caller holds its lock, so a server that runs there has no owner.
        executables: Prefixes of the names of its programs.
        polite: Signal that asks for an orderly stop; ten seconds later they are killed.
    """
    orphans = _running_in(directory.resolve(), executables)
    numbers = {orphan.pid for orphan in orphans}
    for orphan in orphans:
        with contextlib.suppress(psutil.Error):
            if orphan.ppid() not in numbers:  # the server itself, which sees to its children
                orphan.send_signal(polite)
    if alive := _wait(orphans, timeout=10):
        for orphan in alive:
            kill_tree(orphan.pid)
        _wait(alive, timeout=10)


def kill_tree(pid: int) -> None:
    """End a process and its children, if there are any, with SIGKILL; return when the children are gone.

    The process itself is left for its parent to wait for.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        # Stopped first: PostgreSQL answers the death of a child by starting new ones.
        process.suspend()
        children = process.children(recursive=True)
        for member in (*children, process):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        _wait(children, timeout=10)


def _running_in(directory: Path, executables: Sequence[str]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # A process that has ended meanwhile, or another user's, is no orphan.
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(directory) and Path(process.exe()).name.startswith(tuple(executables)):
                found.append(process)
    return found


def _wait(processes: Iterable[psutil.Process], *, timeout: float) -> list[psutil.Process]:
    """Return the processes that still live after `timeout` seconds.

    Not psutil.wait_procs, which waits for zombies: in a container without an init they are never collected.
    """
    alive = list(processes)
    deadline = time.monotonic() + timeout
    while alive := [process for process in alive if _lives(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL)
    return alive


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
