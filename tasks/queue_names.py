"""Names of a Redis broker's queues: ours, those that the caller knows, and those found among the keys.

A queue is a list that exists only while messages wait in it, and Redis has no index of lists. So all keys, results
included, are scanned, a part at each call, because there may be millions. Callers pass the queues that workers consume
from or that PostgreSQL knows.
"""

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache

import redis
from redis.exceptions import ResponseError

from pattern_storage.config.celeryconfig import OPERATION_OF_TASK, QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.job_options import QUEUE_NAME
from pattern_storage.tasks.transport.kombu_parts import redis as kombu_redis

#: Lists that are not queues: claimed and unreadable messages, and kombu's lists for events and replies.
RESERVED = re.compile(r"\.(claimed|unreadable|pidbox)$|^celeryev\.|^unacked")
#: COUNT of each SCAN: it takes Redis a third of a millisecond.
STEP = 1_000
#: Seconds of scanning in each call. A page or a scrape continues where the last one ended; a command starts anew and
#: calls only once.
SHORT, LONG = 0.02, 1.0
#: Seconds between the end of a scan and the beginning of the next.
SCAN_INTERVAL = 1.0
#: Seconds for which a queue is known after its last message was seen.
LATELY = 300.0
#: Limit of other queues' names: every user who may write to Redis can make any number.
MAX_NAMES = 100


class KeyWalk:
    """A scan of the keys of one broker, continued by all threads of a process."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
        self._cursor = 0
        self._begins_at = float("-inf")
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def names(self, server: "redis.Redis", seconds: float) -> set[str]:
        """Continue for this many seconds; return the queues with other names than ours that were seen recently.

        A Redis user without the right to scan sees none. Raises RedisError.
        """
        deadline = time.monotonic() + seconds
        with self._lock:
            while time.monotonic() >= self._begins_at:
                try:
                    self._cursor, keys = server.scan(self._cursor, self._pattern, STEP, "LIST")
                except ResponseError:
                    break
                self._note(server, {self._queue_of(key): key for key in keys})
                if not self._cursor:
                    self._begins_at = time.monotonic() + SCAN_INTERVAL
                if time.monotonic() > deadline:
                    break
            oldest = time.monotonic() - LATELY
            self._seen = {name: at for name, at in self._seen.items() if at > oldest}
            return set(self._seen)

    def _queue_of(self, key: bytes | str) -> str:
        text = key.decode(errors="replace") if isinstance(key, bytes) else key
        return text.removeprefix(self._prefix).partition(kombu_redis.Channel.sep)[0]

    def _note(self, server: "redis.Redis", keys: Mapping[str, bytes | str]) -> None:
        """Note which of these lists are our queues, by one message of each new list, all in one round trip.

        Other applications may have lists and queues on the same server.
        """
        now, asked = time.monotonic(), {}
        for name, key in keys.items():
            if name in QUEUES or RESERVED.search(name) or not QUEUE_NAME.fullmatch(name):
                continue
            if name in self._seen:
                self._seen[name] = now
            else:
                asked[name] = key
        if not asked or len(self._seen) >= MAX_NAMES:
            return
        with server.pipeline(transaction=False) as pipeline:
            for key in asked.values():
                pipeline.lindex(key, -1)
            # A key that may not be read, or is not a list any more, is not a queue.
            replies = pipeline.execute(raise_on_error=False)
        for name, raw in zip(asked, replies, strict=True):
            if isinstance(raw, bytes | str) and len(self._seen) < MAX_NAMES and _task(raw) in OPERATION_OF_TASK:
                self._seen[name] = now


def _task(raw: bytes | str) -> str:
    """Return the name of a message's task, "" if it has none: any program may have written it."""
    try:
        return str(json.loads(raw)["headers"]["task"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""


@cache
def _walk(broker: str, prefix: str) -> KeyWalk:
    return KeyWalk(prefix)


def find_names(
    settings: Settings, server: "redis.Redis", known: Iterable[str], *, seconds: float = SHORT
) -> tuple[str, ...]:
    """Return the names of all queues, ours first; `known` are those that the caller knows. Raises RedisError."""
    prefix = settings.key_prefix
    walk = _walk(settings.broker, prefix) if seconds <= SHORT else KeyWalk(prefix)
    others = {*known, *walk.names(server, seconds)}
    return (*QUEUES, *sorted(others - {*QUEUES}))
