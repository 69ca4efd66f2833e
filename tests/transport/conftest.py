"""The engine's tests count what a server is asked, so that server answers nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey


@pytest.fixture(scope="session")
def quiet_valkey(server_directory: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(server_directory / "quiet", durable=False) as server:
        yield server


@pytest.fixture
def redis_url(quiet_valkey: EmbeddedValkey) -> str:
    with redis.Redis.from_url(quiet_valkey.url) as connection:
        connection.flushall()
    return quiet_valkey.url
