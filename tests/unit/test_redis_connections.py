"""Clients of the result backend by its URL; they connect when they are first used."""

from typing import Any

import pytest
from pydantic import SecretStr

from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections

URL = "sentinel://:secret@one:1/3;sentinel://two:2"


@pytest.fixture
def settings() -> Settings:
    return Settings(
        redis_url="redis://:secret@plain:7/3",
        sentinel_master="m",
        sentinel_password=SecretStr("s"),
        connect_timeout=2.5,
    )


def test_redis_itself(settings: Settings) -> None:
    with redis_connections.connect(settings) as client:
        told = client.connection_pool.connection_kwargs
        assert (told["host"], told["port"], told["db"], told["socket_timeout"]) == ("plain", 7, 3, 2.5)


def check(pool: Any) -> None:
    """The pool asks these Sentinels for this primary, and logs in to each with its own password."""
    assert pool.service_name == "m"
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"], one["password"]) for one in asked] == [("one", 1, "s"), ("two", 2, "s")]
    told = pool.connection_kwargs
    assert (told["password"], told["db"], told["socket_timeout"]) == ("secret", 3, 2.5)


def test_sentinels(settings: Settings) -> None:
    with redis_connections.connect(settings, URL) as client:
        check(client.connection_pool)


async def test_sentinels_for_asyncio(settings: Settings) -> None:
    behind = settings.model_copy(update={"redis_url": URL})
    client = redis_connections.connect_async(behind)
    check(client.connection_pool)
    await client.aclose()
