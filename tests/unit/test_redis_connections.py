"""Clients of the result backend by its URL; they connect when they are first used."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.redis_publisher import AsyncRedisPublisher, RedisPublisher
from tests.fix_process import DEADLINE

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
    client = redis_connections.connect_async(behind, max_connections=4)
    check(client.connection_pool)
    assert client.connection_pool.max_connections == 4
    await client.aclose()


KNOWS = {"m": {"is_master": True, "is_sdown": False, "is_odown": False, "num-other-sentinels": 1, "ip": "p", "port": 5}}


class AsyncSentinel:
    """A Sentinel that answers all who ask at once together, and knows the primary or not."""

    def __init__(self, asked: asyncio.Barrier, *, knows: bool) -> None:
        self._asked, self._knows = asked, knows
        self.is_closed = False

    async def sentinel_masters(self) -> dict[str, Any]:
        await self._asked.wait()
        return KNOWS if self._knows else {}

    async def aclose(self) -> None:
        self.is_closed = True


async def test_no_sentinel_is_lost_where_several_coroutines_ask(settings: Settings) -> None:
    behind = settings.model_copy(update={"redis_url": URL})
    client = redis_connections.connect_async(behind, max_connections=4)
    pool: Any = client.connection_pool
    manager, asked = pool.sentinel_manager, asyncio.Barrier(2)
    sentinels = [AsyncSentinel(asked, knows=False), AsyncSentinel(asked, knows=True)]
    manager._all, manager.sentinels = tuple(sentinels), list(sentinels)
    found: Any = await asyncio.gather(pool.get_master_address(), pool.get_master_address())
    assert found == [("p", 5), ("p", 5)]
    assert manager.sentinels == sentinels[::-1]
    await client.aclose()
    assert all(sentinel.is_closed for sentinel in sentinels)


def test_a_publisher_that_is_closed_leaves_no_sentinel_open(settings: Settings) -> None:
    behind = settings.model_copy(update={"redis_url": URL})
    clients, closed = [redis_connections.connect(behind) for _ in range(2)], []
    for number, client in enumerate(clients):
        pool: Any = client.connection_pool
        pool.sentinel_manager._all = (SimpleNamespace(close=lambda number=number: closed.append(number)),)
    RedisPublisher(clients[0], clients[1], behind).close()
    assert closed == [0, 1]


async def test_an_asyncio_publisher_that_is_closed_leaves_no_sentinel_open(settings: Settings) -> None:
    behind = settings.model_copy(update={"redis_url": URL})
    clients = [redis_connections.connect_async(behind, max_connections=1) for _ in range(2)]
    sentinels = [AsyncSentinel(asyncio.Barrier(1), knows=True) for _ in clients]
    for client, sentinel in zip(clients, sentinels, strict=True):
        pool: Any = client.connection_pool
        pool.sentinel_manager._all = (sentinel,)
    await AsyncRedisPublisher(clients[0], clients[1], behind).close()
    assert all(sentinel.is_closed for sentinel in sentinels)


def test_no_sentinel_is_lost_where_several_threads_ask(settings: Settings) -> None:
    asked = threading.Barrier(2, timeout=DEADLINE)

    def answer(states: dict[str, Any]) -> dict[str, Any]:
        asked.wait()
        return states

    with redis_connections.connect(settings, URL) as client:
        manager: Any = client.connection_pool.sentinel_manager
        closed: list[dict[str, Any]] = []
        sentinels = [
            SimpleNamespace(
                sentinel_masters=lambda states=one: answer(states), close=lambda states=one: closed.append(states)
            )
            for one in ({}, KNOWS)
        ]
        manager._all, manager.sentinels = tuple(sentinels), list(sentinels)
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(manager.discover_master, ["m", "m"]))
        assert found == [("p", 5), ("p", 5)]
        assert manager.sentinels == sentinels[::-1]
    assert closed == [{}, KNOWS]
