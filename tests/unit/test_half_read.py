"""Messages of pool processes that come in two halves, with a broken connection to the broker between them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest
from billiard import Pipe
from celery.concurrency import asynpool
from kombu.asynchronous import Hub

from pattern_storage.tasks.worker.half_read import ResultHandler

#: Sends reports through a pipe, then ends, or kills itself.
REPORTER = """
import ast, os, signal, sys
from billiard.connection import Connection
_, writer, reports, is_killed = sys.argv
connection = Connection(int(writer), readable=False)
for report in ast.literal_eval(reports):
    connection.send(report)
if is_killed == "True":
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Reporter(subprocess.Popen[bytes]):
    """A process as the pool sees it."""

    index: int
    outq: Any

    @property
    def exitcode(self) -> int | None:
        return self.poll()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


class Pool:
    """What Celery's pool does with its handler of results in each event loop."""

    def __init__(self, handler: type[Any], reader: int) -> None:
        self.reader = reader
        self.messages: list[Any] = []
        processes = {reader: SimpleNamespace()}
        self.handler = handler(
            *(None,) * 5, None, None, None, None, fileno_to_outq=processes, on_process_alive=lambda *_: None
        )
        self.handler.on_state_change = self.messages.append
        self.hub = Hub()

    def begin(self) -> None:
        self.hub.reset()
        self.handler.register_with_event_loop(self.hub)
        self.hub.add_reader(self.reader, self.handler.handle_event, self.reader)
        if isinstance(self.handler, ResultHandler):
            self.handler.resume()

    def read(self) -> None:
        registered: Any = self.hub.readers[self.reader]
        callback, arguments = registered
        next(callback, None) if hasattr(callback, "send") else callback(*arguments)


def packed(message: Any) -> bytes:
    body = bytes(ForkingPickler.dumps(message))
    return pack(">i", len(body)) + body


@pytest.mark.parametrize("half", [2, 4, 30])
def test_goes_on_in_the_next_event_loop(pipe: tuple[int, int], half: int) -> None:
    reader, writer = pipe
    pool = Pool(ResultHandler, reader)
    first, second = ("ready", "é" * 50), ("ready", "second")
    pool.begin()
    os.write(writer, packed(first)[:half])
    pool.read()
    pool.begin()
    os.write(writer, packed(first)[half:] + packed(second))
    pool.read()
    pool.read()
    assert pool.messages == [first, second]
    pool.begin()
    os.write(writer, packed(first))
    pool.read()
    assert pool.messages == [first, second, first]


def test_celery_alone_does_not(pipe: tuple[int, int]) -> None:
    """Once it does, `half_read` can go."""
    reader, writer = pipe
    pool = Pool(asynpool.ResultHandler, reader)
    pool.begin()
    os.write(writer, packed(("ready", "é" * 50))[:30])
    pool.read()
    pool.begin()
    os.write(writer, packed(("ready", "é" * 50))[30:])
    try:
        pool.read()
    except Exception:
        return
    assert pool.messages == []


def test_another_process_begins_anew(pipe: tuple[int, int]) -> None:
    """A process that was killed with half of a message written; its successor's pipe has the same number."""
    reader, writer = pipe
    pool = Pool(ResultHandler, reader)
    pool.begin()
    os.write(writer, packed("lost")[:6])
    pool.read()
    pool.handler.fileno_to_outq[reader] = SimpleNamespace()
    pool.begin()
    os.write(writer, packed("new"))
    pool.read()
    assert pool.messages == ["new"]


@pytest.mark.parametrize("half", [0, 6])
def test_a_signal_handler_leaves_what_it_has_interrupted(half: int) -> None:
    """It would take the rest of a message for the beginning of another, or the next one from the reader."""
    reader, writer = Pipe(duplex=False)
    process = SimpleNamespace(outq=SimpleNamespace(_reader=reader), outqR_fd=reader.fileno(), _is_alive=lambda: True)
    pool = Pool(ResultHandler, reader.fileno())
    pool.handler.fileno_to_outq[reader.fileno()] = process
    os.set_blocking(reader.fileno(), False)
    answers = []

    def on_state_change(message: Any) -> None:
        pool.messages.append(message)
        if message == "first":
            answers.append(pool.handler.read(process, 0.0))

    pool.handler.on_state_change = on_state_change
    pool.begin()
    os.write(writer.fileno(), packed("first")[:half])
    if half:
        pool.read()
    os.write(writer.fileno(), packed("first")[half:] + packed("second"))
    pool.read()
    assert answers == [False]
    assert pool.handler.read(process, 0.0)
    assert not pool.handler.read(process, 0.0)
    assert pool.messages == ["first", "second"]


@pytest.mark.parametrize("is_killed", [False, True])
def test_reads_what_a_process_reports_at_its_end(is_killed: bool) -> None:
    """It reports without a call, more than its pipe holds, and ends when all of it has been read."""
    reader, writer = Pipe(duplex=False)
    reports = [("ended", "é" * 50_000), ("ended", "last")]
    # A program, not a fork: in a fork, kombu waits for replies on connections that earlier tests have opened.
    command = [sys.executable, "-c", REPORTER, str(writer.fileno()), repr(reports), str(is_killed)]
    process = Reporter(command, pass_fds=[writer.fileno()])
    process.index, process.outq = 0, SimpleNamespace(_reader=reader)
    pool = Pool(ResultHandler, reader.fileno())
    pool.handler.cache, pool.handler.fileno_to_outq[reader.fileno()] = {}, process
    pool.handler.on_stop_not_started()
    assert pool.messages == reports
    assert process.exitcode == (-signal.SIGKILL if is_killed else 0)
