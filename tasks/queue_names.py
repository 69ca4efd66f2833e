"""Names of a Redis broker's queues: ours, those that are known from elsewhere, and those found among its keys.

A queue is a list that is there while something waits in it, and Redis has no list of lists. Its keys, results included,
are walked through, a part at each call, so that no caller waits for millions; what workers serve and PostgreSQL knows
of is named by the callers.
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

#: Lists beside the queues: what is claimed, what cannot be read, and kombu's for events and answers.
RESERVED = re.compile(r"\.(claimed|unreadable|pidbox)$|^celeryev\.|^unacked")
#: Keys that Redis walks over in one command: a third of a millisecond.
STEP = 1_000
#: Seconds of the walk for each call: of a page or a scrape, which goes on where the last one ended, and of a command,
#: which begins anew and is not asked again.
SHORT, LONG = 0.02, 1.0
#: Seconds after which a walk that has come to its end begins again.
REST = 1.0
#: Seconds for which a queue is known after the last job of it was seen.
LATELY = 300.0
#: Names of other queues at most: anybody who may write to Redis may make as many as they like.
MOST = 100


class KeyWalk:
    """The walk over the keys of one broker, for all threads of a process."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
        self._cursor = 0
        self._begins_at = float("-inf")
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def names(self, server: "redis.Redis", seconds: float) -> set[str]:
        """Go on for so long; return the queues with other names than ours that were seen lately.

        A user of Redis that may not walk sees none. Raises RedisError.
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
                    self._begins_at = time.monotonic() + REST
                if time.monotonic() > deadline:
                    break
            oldest = time.monotonic() - LATELY
            self._seen = {name: at for name, at in self._seen.items() if at > oldest}
            return set(self._seen)

    def _queue_of(self, key: bytes | str) -> str:
        text = key.decode(errors="replace") if isinstance(key, bytes) else key
        return text.removeprefix(self._prefix).partition(kombu_redis.Channel.sep)[0]

    def _note(self, server: "redis.Redis", keys: Mapping[str, bytes | str]) -> None:
        """Note the queues of these lists, by a look at one message of each new one, all in one round trip.

        Redis may be shared with applications that have lists and queues too.
        """
        now, asked = time.monotonic(), {}
        for name, key in keys.items():
            if name in QUEUES or RESERVED.search(name) or not QUEUE_NAME.fullmatch(name):
                continue
            if name in self._seen:
                self._seen[name] = now
            else:
                asked[name] = key
        if not asked or len(self._seen) >= MOST:
            return
        with server.pipeline(transaction=False) as pipeline:
            for key in asked.values():
                pipeline.lindex(key, -1)
            # One that is not allowed, or no list any more, is none.
            replies = pipeline.execute(raise_on_error=False)
        for name, raw in zip(asked, replies, strict=True):
            if isinstance(raw, bytes | str) and len(self._seen) < MOST and _task(raw) in OPERATION_OF_TASK:
                self._seen[name] = now


def _task(raw: bytes | str) -> str:
    """Return the name of a message's task; anybody may have put it there."""
    try:
        return str(json.loads(raw)["headers"]["task"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""


@cache
def _walk(broker: str, prefix: str) -> KeyWalk:
    return KeyWalk(prefix)


def find_names(
    settings: Settings, server: "redis.Redis", known: Iterable[str] = (), *, seconds: float = SHORT
) -> tuple[str, ...]:
    """Return the names of all queues: ours first. `known` are those that the caller knows of. Raises RedisError."""
    prefix = settings.key_prefix
    walk = _walk(settings.broker, prefix) if seconds <= SHORT else KeyWalk(prefix)
    others = {*known, *walk.names(server, seconds)}
    return (*QUEUES, *sorted(others - {*QUEUES}))
