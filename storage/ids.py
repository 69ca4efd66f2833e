"""Ids of patterns that are made here and not by PostgreSQL: UUIDs of version 7, which ascend in time.

New rows are then neighbours in the primary key and in every index that ends with the id (docs/performance.md).
"""

import os
import time
from uuid import UUID


def new_id() -> UUID:
    """Return a UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 random ones."""
    random = int.from_bytes(os.urandom(10))
    milliseconds = time.time_ns() // 1_000_000
    upper, lower = random >> 62 & 0xFFF, random & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 0x7 << 76 | upper << 64 | 0b10 << 62 | lower)
