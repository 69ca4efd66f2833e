"""Brokers that refuse connections, or accept them and say nothing: one error, one log line, and no long wait."""

import logging
import socket
import time
from collections.abc import Iterator

import pytest

from pattern_storage.tasks.client import AsyncPatternStorageClient, BrokerUnavailable, PatternStorageClient
from pattern_storage.tasks.observability import metrics
from tests.fix_storage import make_pattern

#: Seconds that a client of these tests would wait by itself: so many that a call which does has failed.
PATIENCE = 60.0
SCHEMES = ("redis://127.0.0.1:{}/0", "amqp://127.0.0.1:{}//")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Connections to it are accepted, by the system, and nobody ever reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def send(url: str, **options: float) -> float:
    """Return the longest time of a sync and an async call that both raise BrokerUnavailable."""
    taken = []
    with PatternStorageClient(redis_url="redis://127.0.0.1:1/0", broker_url=url, connect_timeout=PATIENCE) as client:
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="the queue does not answer"):
            client.insert(make_pattern(), connect_timeout=options.get("connect_timeout"))
        taken.append(time.monotonic() - begun)
    async with AsyncPatternStorageClient(
        redis_url="redis://127.0.0.1:1/0", broker_url=url, connect_timeout=PATIENCE
    ) as other:
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="the queue does not answer"):
            await other.insert(make_pattern(), connect_timeout=options.get("connect_timeout"))
        taken.append(time.monotonic() - begun)
    return max(taken)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_one_that_refuses_is_reported_at_once(
    closed_port: int, scheme: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[None] = []
    monkeypatch.setattr(metrics, "broker_failed", lambda: counted.append(None))
    with caplog.at_level(logging.WARNING, "pattern_storage.tasks.client"):
        assert await send(scheme.format(closed_port)) < PATIENCE / 2
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["cannot enqueue"] * 2
    assert len(counted) == 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_one_that_is_silent_is_reported_within_the_call_s_timeout(silent_port: int, scheme: str) -> None:
    assert await send(scheme.format(silent_port), connect_timeout=0.2) < PATIENCE / 2


async def test_silent_sentinels_share_the_timeout(silent_port: int) -> None:
    url = ";".join([f"sentinel://127.0.0.1:{silent_port}/0"] * 4)
    begun = time.monotonic()
    with PatternStorageClient(redis_url=url, connect_timeout=0.4) as client, pytest.raises(BrokerUnavailable):
        client.insert(make_pattern())
    async with AsyncPatternStorageClient(redis_url=url, connect_timeout=0.4) as other:
        with pytest.raises(BrokerUnavailable):
            await other.insert(make_pattern())
    assert time.monotonic() - begun < PATIENCE / 2
