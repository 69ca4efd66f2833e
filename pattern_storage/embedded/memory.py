"""Memory and WAL settings of an embedded PostgreSQL, sized by the machine as a tuning tool does for a desktop.

PostgreSQL's own defaults are for a machine of the year 2000. A server that shares a laptop takes a sixteenth of its
memory as cache, where a dedicated server would take a quarter; none of it is used before there is data.
"""

from contextlib import suppress
from pathlib import Path

import psutil

MIB = 1024 * 1024

#: Files that say how much memory a container may use: of cgroups 2, and of cgroups 1.
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def usable_memory() -> int:
    """Return the bytes of memory that may be used: the machine's, or a container's limit."""
    memory = psutil.virtual_memory().total
    for file in CGROUP_LIMITS:
        try:
            limit = file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():  # "max" means no limit
            memory = min(memory, int(limit))
    return memory


def memory_settings(memory: int) -> dict[str, str]:
    """Return PostgreSQL's settings for a machine with this many bytes of memory."""

    def share(part: int, least: int, most: int) -> str:
        return f"{max(least, min(most, memory // part // MIB))}MB"

    return {
        "shared_buffers": share(16, 32, 1024),
        # The planner's estimate of what is cached, also by the operating system; nothing is allocated.
        "effective_cache_size": share(4, 64, 16 * 1024),
        # Building an index: one at a time, and up to three autovacuum workers.
        "maintenance_work_mem": share(64, 16, 256),
        # A page of a query sorts at most some thousand rows; an import finds repeated keys among a million.
        "work_mem": share(512, 4, 32),
    }


def free_disk(directory: Path) -> int:
    """Return the bytes that are free on the disk of a directory, which need not exist yet."""
    for parent in (directory, *directory.parents):
        with suppress(OSError):  # it does not exist, or may not be entered, which the start reports
            return psutil.disk_usage(str(parent)).free
    return 0


def wal_settings(free: int) -> dict[str, str]:
    """Return PostgreSQL's settings for a disk with this many free bytes.

    A checkpoint comes after half of max_wal_size, and after it each page that is changed is written to the WAL as a
    whole: a large import writes 4 GB of WAL. A larger size would only make recovery after a crash longer.
    """
    return {"max_wal_size": f"{max(256, min(4096, free // 10 // MIB))}MB"}
