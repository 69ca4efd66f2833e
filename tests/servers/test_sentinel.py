"""Redis behind Sentinel as queue and result store, and a failover while jobs run."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psutil
import psycopg
import pytest

from pattern_storage.tasks.client import AsyncPatternStorageClient, BrokerUnavailable, PatternStorageClient
from tests.fix_cli import run_script
from tests.fix_everything import PATIENT, do_everything
from tests.fix_faults import SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, StartProcess, wait_until
from tests.fix_sentinel import MASTER, SENTINEL_PASSWORD, Sentinels
from tests.fix_storage import contract, make_pattern

#: Seconds; what a dead worker or server held comes again in a few.
PATIENCE = 180.0


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch, sentinels: Sentinels) -> dict[str, Any]:
    """What everybody needs to find the primary, clients in this process included."""
    names = {
        "PATTERN_STORAGE_SENTINEL_MASTER": MASTER,
        "PATTERN_STORAGE_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
    }
    for name, value in {"REDIS_URL": sentinels.url, **names}.items():
        monkeypatch.setenv(name, value)
    return names


@pytest.fixture
def guarded_load(database_url: str, sentinels: Sentinels, behind: dict[str, Any]) -> Iterator[Load]:
    client = PatternStorageClient(connect_timeout=1)
    with closing(Load(database_url, sentinels.primary_url, client=client)) as opened:
        yield opened


def test_everything(
    sentinels: Sentinels, guarded_load: Load, behind: dict[str, Any], launch: Launch, start_process: StartProcess
) -> None:
    load = guarded_load
    worker = launch(load.database_url, sentinels.url, env=behind | PATIENT)
    assert "transport:   sentinel://" in worker.logs()
    start_process("pattern_storage", "relay", DATABASE_URL=load.database_url, REDIS_URL=sentinels.url, **behind)
    do_everything(load.client, load.database_url)
    said = run_script("doctor", DATABASE_URL=load.database_url, REDIS_URL=sentinels.url, **behind)
    assert said.code == 0, said.out

    async def ask() -> None:
        async with AsyncPatternStorageClient() as client:
            jobs = await client.submit_many([contract("insert", data=make_pattern()) for _ in range(50)])
            results = await asyncio.gather(*(job.result(DEADLINE) for job in jobs))
            assert all(result.success for result in results)

    before, transactions = connections(sentinels), load.transactions()
    asyncio.run(ask())
    assert connections(sentinels) == before
    # Those that come together are executed in groups.
    assert load.transactions() < transactions + 25


def connections(sentinels: Sentinels) -> set[tuple[int, int]]:
    """The connections of this process to the Sentinels and the primary, as pairs of ports."""
    ports = {*sentinels.ports, sentinels.primary}
    own = psutil.Process().net_connections("tcp")
    return {(one.laddr.port, one.raddr.port) for one in own if one.raddr and one.raddr.port in ports}


def test_failover_under_load(
    sentinels: Sentinels, guarded_load: Load, behind: dict[str, Any], launch: Launch, start_process: StartProcess
) -> None:
    """The primary is killed while jobs run: what the replica has is done once, and so is all that the outbox has."""
    load = guarded_load
    launch(load.database_url, sentinels.url, env=SOON | behind)
    again = {"PATTERN_STORAGE_RELAY_REPUBLISH_DELAY": "5", "PATTERN_STORAGE_CONNECT_TIMEOUT": "1"}
    relay = start_process(
        "pattern_storage", "relay", DATABASE_URL=load.database_url, REDIS_URL=sentinels.url, **behind | again
    )
    load.submit(load.mixed(600))
    sentinels.wait_replicated()
    load.wait_done(100)
    # A job in the outbox needs no replica: it is published until it is done.
    written = load.inserts(50)
    with psycopg.connect(load.database_url) as connection:
        for job in written:
            load.client.submit_in(connection, job)
    load.accepted |= {job.correlation_id: job for job in written}
    sentinels.fail_over()

    def accepted() -> bool:
        try:
            load.submit([load.insert()])
        except BrokerUnavailable:
            return False
        return True

    wait_until(accepted, "the client has found the new primary")
    load.redis_url = sentinels.primary_url
    outcomes = load.settle(PATIENCE)
    assert outcomes.counts["done"] >= 651
    assert set(outcomes.counts) <= {"done", "never accepted"}
    assert relay.status == "running"
