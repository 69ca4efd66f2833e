"""Packed Redis commands of a publish call, and the check of their replies, which are one line each.

The protocol, RESP: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from redis.exceptions import ResponseError

from pattern_storage.config.settings import Settings
from pattern_storage.tasks.client.message import PRIORITY_NUMBERS, encode_for_redis
from pattern_storage.tasks.client.outgoing import Outgoing
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.status import QUEUED
from pattern_storage.tasks.resp import pack
from pattern_storage.vocabulary import Priority

#: Messages in one round trip. The server executes one chunk while the next is encoded, so a larger one gains nothing.
CHUNK = 100
#: Bytes at which a chunk ends with fewer messages: a contract may have megabytes.
CHUNK_BYTES = 4_000_000

#: Commands that add to the end and to the head of a queue: workers take from the right.
LAST, FIRST = b"LPUSH", b"RPUSH"
#: kombu's separator of queue and priority in the name of a list: each priority has a list of its own.
SEPARATOR = "\x06\x16"


class Refused(ResponseError):
    """The server replied with an error and did not take the messages."""


class Chunk(NamedTuple):
    """The commands of one round trip: an LPUSH for each queue, and a SET NX for each job."""

    #: Numbers of commands in `pushes` and in `marks`.
    push_count: int
    mark_count: int
    pushes: bytes
    marks: bytes

    def check(self, replies: Sequence[bytes]) -> None:
        """Raise Refused if messages were refused; a refused marker is ignored.

        Raises ConnectionResetError if the server is a replica now: a new connection finds the primary of Sentinels.
        """
        for reply in replies[: self.push_count]:
            if reply.startswith(b"-READONLY"):
                raise ConnectionResetError(reply[1:].decode(errors="replace"))
            if not reply.startswith(b":"):
                raise Refused(reply[1:].decode(errors="replace"))


def chunks(jobs: Sequence[Outgoing], settings: Settings) -> Iterator[Chunk]:
    """Yield the commands that publish these jobs, in order within each queue."""
    prefix = settings.key_prefix
    mark = _mark_template(int(settings.result_expires), prefix)
    if len(jobs) == 1:
        # The most frequent call; the lists below would take a tenth of its time.
        queue, element = encode_for_redis(jobs[0])
        command, key = _place(jobs[0], f"{prefix}{queue}")
        yield Chunk(1, 1, _push(command, key, 1, _packed(element)), mark % _key(jobs[0], prefix))
        return
    lists: dict[tuple[bytes, str], list[bytes]] = {}
    marks: list[bytes] = []
    size = 0
    for job in jobs:
        queue, element = encode_for_redis(job)
        lists.setdefault(_place(job, f"{prefix}{queue}"), []).append(_packed(element))
        marks.append(mark % _key(job, prefix))
        size += len(element)
        if len(marks) >= CHUNK or size >= CHUNK_BYTES:
            yield _chunk(lists, marks)
            lists, marks, size = {}, [], 0
    if marks:
        yield _chunk(lists, marks)


def _place(job: Outgoing, queue: str) -> tuple[bytes, str]:
    """Return the command that adds a job to its queue, and the name of the list."""
    priority = job.options.priority
    if priority is Priority.NORMAL:
        return LAST, queue
    if priority is Priority.URGENT:
        return FIRST, queue
    return LAST, f"{queue}{SEPARATOR}{PRIORITY_NUMBERS[priority]}"


def _key(job: Outgoing, prefix: str) -> bytes:
    return result_key(job.correlation_id, prefix).encode()


def _chunk(lists: dict[tuple[bytes, str], list[bytes]], marks: list[bytes]) -> Chunk:
    pushes = b"".join(
        # RPUSH makes the last element the first of the queue.
        _push(command, key, len(elements), b"".join(elements if command is LAST else reversed(elements)))
        for (command, key), elements in lists.items()
    )
    return Chunk(len(lists), len(marks), pushes, b"".join(marks))


def _push(command: bytes, key: str, count: int, elements: bytes) -> bytes:
    return b"*%d\r\n$5\r\n%b\r\n$%d\r\n%b\r\n%b" % (2 + count, command, len(key), key.encode(), elements)


def _packed(element: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(element), element)


@lru_cache(maxsize=8)
def _mark_template(seconds: int, prefix: str) -> bytes:
    """Return the packed command that marks a job as QUEUED, with `%b` for its result key."""
    # NX: a worker may have stored STARTED or a result already. All keys have the same length.
    key = result_key(UUID(int=0), prefix).encode()
    arguments = (b"SET", key, QUEUED.encode(), b"NX", b"EX", b"%d" % seconds)
    return pack(*arguments).replace(b"%", b"%%").replace(key, b"%b")
