"""Memory settings of the embedded PostgreSQL, from a small container to a large machine."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pattern_storage.embedded import memory
from pattern_storage.embedded.memory import MIB, free_disk, memory_settings, usable_memory, wal_settings

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("machine", "buffers", "cache"),
    [
        (256 * MIB, "32MB", "64MB"),
        (2 * GIB, "128MB", "512MB"),
        (8 * GIB, "512MB", "2048MB"),
        (16 * GIB, "1024MB", "4096MB"),
        (512 * GIB, "1024MB", "16384MB"),
    ],
)
def test_sized_by_the_machine(machine: int, buffers: str, cache: str) -> None:
    settings = memory_settings(machine)
    assert (settings["shared_buffers"], settings["effective_cache_size"]) == (buffers, cache)


def test_a_quarter_of_the_memory_is_never_exceeded() -> None:
    """By the cache, three autovacuum workers and one index that is built, together."""
    for machine in (512 * MIB, GIB, 4 * GIB, 64 * GIB):
        settings = {name: int(value[:-2]) for name, value in memory_settings(machine).items() if value.endswith("MB")}
        assert (settings["shared_buffers"] + 4 * settings["maintenance_work_mem"]) * MIB <= machine // 4


@pytest.mark.parametrize(("free", "size"), [(GIB, "256MB"), (20 * GIB, "2048MB"), (900 * GIB, "4096MB")])
def test_wal_takes_a_tenth_of_the_disk(free: int, size: str) -> None:
    assert wal_settings(free) == {"max_wal_size": size}


def test_the_disk_of_a_directory_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(path: str) -> SimpleNamespace:
        if path.startswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return SimpleNamespace(free=7)

    monkeypatch.setattr(psutil, "disk_usage", measure)
    # As it is for root, who runs these tests in a container.
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert free_disk(Path("/closed/data")) == 7


def test_the_disk_of_a_directory_to_come(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "a" / "b") == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.2)


@pytest.mark.parametrize(("limit", "expected"), [("536870912", 512 * MIB), ("max", None), ("9" * 19, None)])
def test_a_container_may_use_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    file = tmp_path / "memory.max"
    file.write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "absent", file))
    assert usable_memory() == (expected or psutil.virtual_memory().total)
