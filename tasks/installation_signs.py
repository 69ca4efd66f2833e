"""Signs of installations in Redis: whose workers have taken jobs from these queues, also while none of them runs."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from pattern_storage.storage.installation import Installation

#: A sorted set beside the queue `storage`, so that every user who may take from the queue may sign: the member is the
#: installation, the score the time at which one of its workers was last there.
KEY = "storage.installations"
#: Seconds between two signs of a worker.
SIGN_INTERVAL = 3_600.0
#: Seconds after which a sign counts no more.
KEPT = 30 * 86_400.0


def sign(client: Any, prefix: str, ours: Installation) -> None:
    """Note that a worker of this installation is there, and forget old signs. Raises redis.exceptions.RedisError.

    Args:
        client: redis-py's, which puts no prefix before keys.
        prefix: what all our keys begin with.
        ours: whose worker it is.
    """
    key, now = f"{prefix}{KEY}", time.time()
    client.zadd(key, {json.dumps(ours): now})
    if old := client.zrangebyscore(key, 0, now - KEPT):
        client.zrem(key, *old)


def read_signs(client: Any, prefix: str) -> dict[Installation, datetime]:
    """Return the installations whose workers were there, and when last. Raises redis.exceptions.RedisError."""
    found = client.zrangebyscore(f"{prefix}{KEY}", time.time() - KEPT, "+inf", withscores=True)
    return {_read(raw): datetime.fromtimestamp(score, UTC) for raw, score in found}


def _read(raw: bytes) -> Installation:
    """Read a member; of what another hand wrote nothing is known."""
    try:
        server, database, schema = map(str, json.loads(raw))
    except (ValueError, TypeError):
        return Installation("?", "?", "?")
    return Installation(server, database, schema)
