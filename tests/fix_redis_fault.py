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
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from redis.connection import AbstractConnection

from tests.fix_process import ROOT, clean_environment
from tests.fix_reader import OURS, Reader, publish


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


@pytest.fixture
def forge(redis_url: str, tmp_path: Path) -> Iterator[Forge]:
    """Starts consumers on this test's Redis."""
    with closing(Forge(tmp_path, redis_url)) as opened:
        yield opened


if __name__ == "__main__":
    serve()
