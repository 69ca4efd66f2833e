"""Access of Flower's pages to their servers, where one is away."""

import pytest

from pattern_storage.config.settings import Settings
from pattern_storage.storage.errors import ServerUnavailable
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.flower.backend import Backend
from tests.fix_process import free_port


async def test_a_database_that_is_away_is_not_said_to_be_busy() -> None:
    async def ask(_: Connection) -> None:
        raise AssertionError

    url = f"postgresql://127.0.0.1:{free_port()}/nowhere"
    backend = Backend(Settings(database_url=url, redis_url="redis://127.0.0.1", connect_timeout=0.2))
    with pytest.raises(ServerUnavailable, match="PostgreSQL did not answer in time"):
        await backend.run(ask)
    await backend._pool.close()
