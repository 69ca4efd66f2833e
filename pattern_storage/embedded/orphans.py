"""Termination of processes without an owner, and of process trees."""

import contextlib
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

__all__ = ["kill_tree", "stop_orphans"]

POLL = 0.005  # seconds


def stop_orphans(directory: Path, executables: Sequence[str], polite: signal.Signals) -> None:
    """Stop servers that a dead parent left running in `directory`.

    They are known by program and working directory, which both servers set to their data directory. Pid files
    are not trusted: after a crash the number in one may belong to anyone.

    Args:
        directory: Data directory of the server. The caller holds its lock, so what runs there has no owner.
        executables: How the names of its programs begin.
        polite: Signal that asks for an orderly stop; after ten seconds they are killed.
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
    """End a process and its children with SIGKILL; returns when the children are gone.

    The process itself is left for its parent to wait for. Nothing happens when it is gone already.
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
        # Gone meanwhile, or another user's: not one of ours then.
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(directory) and Path(process.exe()).name.startswith(tuple(executables)):
                found.append(process)
    return found


def _wait(processes: Iterable[psutil.Process], *, timeout: float) -> list[psutil.Process]:
    """Those that still live after `timeout` seconds.

    Not psutil.wait_procs, which waits for zombies: in a container without an init nobody collects them.
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
