"""The client without its servers: it fails in time, and what was accepted stays accepted."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.client import (
    BrokerUnavailable,
    PatternStorageClient,
    ResultBackendUnavailable,
)
from tests.fix_process import DEADLINE, wait_until
from tests.fix_servers import Store
from tests.fix_storage import contract, make_pattern

T = TypeVar("T")


def bounded(call: Callable[[], T]) -> T:
    """Call in a thread, so that one that hangs fails this test instead of stopping the run."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((True, call()))
        except BaseException as error:
            outcome.extend((False, error))

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "the call hangs"
    returned, value = outcome
    if not returned:
        raise value
    return value  # type: ignore[no-any-return]


class TestServersThatDoNotAnswer:
    """A typed error within a bounded time, never a hang."""

    @pytest.fixture(params=["absent_url", "deaf_url"])
    def lost(self, request: pytest.FixtureRequest) -> Iterator[PatternStorageClient]:
        url = request.getfixturevalue(request.param)
        with PatternStorageClient(redis_url=url, connect_timeout=0.2) as client:
            yield client

    def test_submit(self, lost: PatternStorageClient) -> None:
        with pytest.raises(BrokerUnavailable, match=r"^the queue does not answer: ") as caught:
            bounded(lambda: lost.insert(make_pattern()))
        assert isinstance(caught.value, ConnectionError)

    def test_submit_many(self, lost: PatternStorageClient) -> None:
        contracts = [contract("insert", data=make_pattern()) for _ in range(600)]
        with pytest.raises(BrokerUnavailable):
            bounded(lambda: lost.submit_many(contracts))

    def test_status_and_result(self, lost: PatternStorageClient) -> None:
        job = lost.get(uuid4())
        with pytest.raises(ResultBackendUnavailable, match=r"^the result backend does not answer: "):
            bounded(job.status)
        with pytest.raises(ResultBackendUnavailable):
            bounded(lambda: job.result(DEADLINE))

    def test_accepted_job_stays_accepted_without_result_backend(
        self, redis_url: str, absent_url: str, store: Store
    ) -> None:
        with PatternStorageClient(redis_url=redis_url, result_backend_url=absent_url, connect_timeout=10) as client:
            job = bounded(lambda: client.insert(make_pattern()))
            assert store.llen("storage") == 1
            with pytest.raises(ResultBackendUnavailable):
                bounded(job.status)

    def test_restart_between_two_jobs(self, lone_valkey: EmbeddedValkey) -> None:
        with PatternStorageClient(redis_url=lone_valkey.url, connect_timeout=10) as client:
            first = client.insert(make_pattern())
            assert first.status() == "QUEUED"
            lone_valkey.kill()
            with pytest.raises(BrokerUnavailable):
                bounded(lambda: client.insert(make_pattern()))
            lone_valkey.start()
            second = bounded(lambda: client.insert(make_pattern()))
            assert second.status() == "QUEUED"
            lone_valkey.stop()
            lone_valkey.start()
            bounded(lambda: client.insert(make_pattern()))
            with redis.Redis.from_url(lone_valkey.url) as operator:
                assert operator.llen("storage") == 1

    def test_server_that_dies_while_a_result_is_awaited(self, lone_valkey: EmbeddedValkey) -> None:
        with PatternStorageClient(redis_url=lone_valkey.url, connect_timeout=10) as client:
            job = client.insert(make_pattern())
            key = f"celery-task-meta-{job.correlation_id}"
            with redis.Redis.from_url(lone_valkey.url) as operator, ThreadPoolExecutor(1) as pool:
                result = pool.submit(job.result, DEADLINE)
                wait_until(lambda: dict(operator.pubsub_numsub(key)).get(key.encode()), "the client listens")
                lone_valkey.kill()
                assert isinstance(result.exception(DEADLINE), ResultBackendUnavailable)
