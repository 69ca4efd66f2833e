"""Ids of patterns that workers make, as UUIDs of version 7, which ascend in time.

New rows are then neighbours in the primary key and in every index that ends with the id (docs/performance.md).
"""

import os
import time
from uuid import UUID

#: Random bytes of an id.
RANDOM = 10


def new_id() -> UUID:
    """Return a UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 random ones."""
    return UUID(int=_number(time.time_ns(), os.urandom(RANDOM)))


def new_ids(count: int) -> list[str]:
    """Return `count` ids as texts without hyphens, which PostgreSQL does not need."""
    now, random = time.time_ns(), os.urandom(RANDOM * count)
    return [f"{_number(now, random[first : first + RANDOM]):032x}" for first in range(0, len(random), RANDOM)]


def _number(nanoseconds: int, random_bytes: bytes) -> int:
    random = int.from_bytes(random_bytes)
    upper, lower = random >> 62 & 0xFFF, random & (1 << 62) - 1
    return nanoseconds // 1_000_000 << 80 | 0x7 << 76 | upper << 64 | 0b10 << 62 | lower
