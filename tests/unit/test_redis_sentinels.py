"""Redis Sentinels that several callers ask at once: clients, kombu's channel and Celery's result backend lose none."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio
from celery import Celery
from kombu import Connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.redis_publisher import AsyncRedisPublisher, RedisPublisher
from pattern_storage.tasks.transport.transport import SentinelChannel, SentinelTransport
from pattern_storage.tasks.worker.result_backend import StorageSentinelBackend
from tests.fix_process import DEADLINE

URL = "sentinel://:secret@one:1/3;sentinel://two:2"
SETTINGS = Settings(redis_url=URL, sentinel_master="m")
STATE = {"m": {"is_master": True, "is_sdown": False, "is_odown": False, "num-other-sentinels": 1, "ip": "p", "port": 5}}


def client_pool() -> Any:
    return redis_connections.connect(SETTINGS).connection_pool


def channel() -> Any:
    transport: Any = Connection(URL, transport=SentinelTransport, transport_options={"master_name": "m"}).transport
    return SentinelChannel(transport)


def backend_pool() -> Any:
    app = Celery("backend", set_as_current=False)
    app.conf.result_backend_transport_options = {"master_name": "m"}
    backend: Any = StorageSentinelBackend(app=app, url=URL)
    return backend.client.connection_pool


POOLS = {
    "client": client_pool,
    "channel": lambda: channel().pool,
    "polled connections": lambda: channel().async_pool,
    "result backend": backend_pool,
}


@pytest.fixture(params=POOLS)
def manager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The manager of Sentinels of one of our pools, none of which connects."""
    monkeypatch.setattr(redis.Redis, "ping", lambda self: True)
    return POOLS[request.param]().sentinel_manager


def pool_at(host: str) -> Any:
    return SimpleNamespace(connection_kwargs={"host": host, "port": 1})


def sentinel(ask: Callable[[], dict[str, Any]], closed: list[str], name: str) -> Any:
    return SimpleNamespace(
        sentinel_masters=ask, close=lambda: closed.append(name), name=name, connection_pool=pool_at(name)
    )


def test_each_sentinel_is_asked_once(manager: Any) -> None:
    retries = [one.connection_pool.connection_kwargs["retry"].get_retries() for one in manager.sentinels]
    assert retries == [0, 0]


def test_threads_that_ask_at_once_lose_no_sentinel(manager: Any) -> None:
    together = threading.Barrier(2, timeout=DEADLINE)
    closed: list[str] = []

    def answer(states: dict[str, Any]) -> dict[str, Any]:
        together.wait()
        return states

    ignorant = sentinel(lambda: answer({}), closed, "ignorant")
    knowing = sentinel(lambda: answer(STATE), closed, "knowing")
    manager.sentinels = [ignorant, knowing]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(manager.discover_master, ["m", "m"])) == [("p", 5), ("p", 5)]
    assert manager.sentinels == [knowing, ignorant]
    manager.close()
    assert closed == ["knowing", "ignorant"]


def test_a_search_asks_each_sentinel_whatever_another_has_found(manager: Any) -> None:
    """The second search overtakes the first while that waits for its first answer."""
    found: list[Any] = []

    def answer_late() -> dict[str, Any]:
        if not found:
            found.append(None)
            found.append(manager.discover_master("m"))
        return {}

    manager.sentinels = [sentinel(answer_late, [], "ignorant"), sentinel(lambda: STATE, [], "knowing")]
    assert manager.discover_master("m") == ("p", 5)
    assert found[1] == ("p", 5)
    assert [one.name for one in manager.sentinels] == ["knowing", "ignorant"]


DOWN = {"m": STATE["m"] | {"is_odown": True}}
WHY_NOT = (
    r"^no Sentinel names the primary 'm' \(127\.0\.0\.1:1: [^;]*; a:1: no such primary; b:1: the primary is down\)$"
)


def test_an_error_has_a_reason_for_each_and_no_password(manager: Any) -> None:
    dead = redis.Redis("127.0.0.1", 1, password="hush", retry=Retry(NoBackoff(), 0))
    manager.sentinels = [dead, sentinel(dict, [], "a"), sentinel(lambda: DOWN, [], "b")]
    with pytest.raises(redis.ConnectionError, match=WHY_NOT) as caught:
        manager.discover_master("m")
    assert "hush" not in str(caught.value)


class AsyncSentinel:
    """A Sentinel that answers all who ask at once together, and knows the primary or not."""

    def __init__(self, together: asyncio.Barrier, answer: dict[str, Any], name: str = "") -> None:
        self._together, self._answer = together, answer
        self.connection_pool = pool_at(name)
        self.is_closed = False

    async def sentinel_masters(self) -> dict[str, Any]:
        await self._together.wait()
        return self._answer

    async def aclose(self) -> None:
        self.is_closed = True


async def test_an_error_for_asyncio_says_the_same() -> None:
    client = redis_connections.connect_async(SETTINGS)
    pool: Any = client.connection_pool
    manager = pool.sentinel_manager
    dead = redis.asyncio.Redis(host="127.0.0.1", port=1, password="hush", retry=AsyncRetry(NoBackoff(), 0))
    alone = asyncio.Barrier(1)
    manager.sentinels = [dead, AsyncSentinel(alone, {}, "a"), AsyncSentinel(alone, DOWN, "b")]
    with pytest.raises(redis.ConnectionError, match=WHY_NOT) as caught:
        await manager.discover_master("m")
    assert "hush" not in str(caught.value)
    await client.aclose()


async def test_coroutines_that_ask_at_once_lose_no_sentinel() -> None:
    client = redis_connections.connect_async(SETTINGS)
    pool: Any = client.connection_pool
    retries = [one.connection_pool.connection_kwargs["retry"].get_retries() for one in pool.sentinel_manager.sentinels]
    assert retries == [0, 0]
    together = asyncio.Barrier(2)
    sentinels = [AsyncSentinel(together, {}), AsyncSentinel(together, STATE)]
    pool.sentinel_manager.sentinels = list(sentinels)
    found: Any = await asyncio.gather(pool.get_master_address(), pool.get_master_address())
    assert found == [("p", 5), ("p", 5)]
    assert pool.sentinel_manager.sentinels == sentinels[::-1]
    await client.aclose()
    assert all(one.is_closed for one in sentinels)


def test_a_publisher_that_is_closed_leaves_no_sentinel_open() -> None:
    clients = [redis_connections.connect(SETTINGS) for _ in range(2)]
    closed: list[str] = []
    for client, name in zip(clients, ("broker", "results"), strict=True):
        pool: Any = client.connection_pool
        pool.sentinel_manager.sentinels = [sentinel(dict, closed, name)]
    RedisPublisher(clients[0], clients[1], SETTINGS).close()
    assert closed == ["broker", "results"]


async def test_an_asyncio_publisher_that_is_closed_leaves_no_sentinel_open() -> None:
    clients = [redis_connections.connect_async(SETTINGS) for _ in range(2)]
    sentinels = [AsyncSentinel(asyncio.Barrier(1), STATE) for _ in clients]
    for client, one in zip(clients, sentinels, strict=True):
        pool: Any = client.connection_pool
        pool.sentinel_manager.sentinels = [one]
    await AsyncRedisPublisher(clients[0], clients[1], SETTINGS).close()
    assert all(one.is_closed for one in sentinels)
