"""Signs in Redis of the installations whose workers have taken jobs from its queues, even if none runs now."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from pattern_storage.storage.installation import Installation

#: The remote control command that a worker answers with its own installation.
COMMAND = "installation"
#: A sorted set of installations; the score is the last time at which one of its workers ran. The name is like that of
#: the queue `storage`, so that every Redis user who may take from the queue may write it.
KEY = "storage.installations"
#: Seconds between two signs of a worker.
SIGN_INTERVAL = 3_600.0
#: Seconds after which a sign has expired.
KEPT = 30 * 86_400.0


def sign(client: Any, prefix: str, ours: Installation) -> None:
    """Write the sign of a worker's installation, and remove expired signs. Raises redis.exceptions.RedisError.

    Args:
        client: a client of redis-py that adds no prefix to keys.
        prefix: `Settings.key_prefix`.
        ours: the worker's installation.
    """
    key, now = f"{prefix}{KEY}", time.time()
    client.zadd(key, {json.dumps(ours): now})
    if old := client.zrangebyscore(key, 0, now - KEPT):
        client.zrem(key, *old)


def read_signs(client: Any, prefix: str) -> dict[Installation, datetime]:
    """Return the installations with the last time of each sign. Raises redis.exceptions.RedisError."""
    now = time.time()
    # Limited at both ends: another program may have written a score that is no time.
    members = client.zrangebyscore(f"{prefix}{KEY}", now - KEPT, now + KEPT, withscores=True)
    return {_read(member): datetime.fromtimestamp(score, UTC) for member, score in members}


def _read(member: bytes) -> Installation:
    """Return the installation of a member; its parts are "?" if another program wrote it."""
    try:
        server, database, schema = map(str, json.loads(member))
    except (ValueError, TypeError, RecursionError):
        return Installation("?", "?", "?")
    return Installation(server, database, schema)
