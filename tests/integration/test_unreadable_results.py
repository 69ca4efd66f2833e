"""Garbage under a result key: every call says `unreadable_result`, or what PostgreSQL knows, and raises nothing."""

from uuid import uuid4

import psycopg
import pytest
import redis

from pattern_storage.tasks.client import AsyncPatternStorageClient, PatternStorageClient
from pattern_storage.tasks.client.result_document import result_key
from tests.fix_storage import make_pattern

GARBAGE = [b"", b"not json", b"\xff", b"[]", b"null", b'{"status": 5}', b'{"status": "FAILURE"}', b"[" * 100_000]


def put(store: "redis.Redis", key: str, garbage: bytes | None) -> None:
    store.delete(key)
    if garbage is None:
        store.rpush(key, "of another type")
    else:
        store.set(key, garbage)


@pytest.mark.parametrize("garbage", [*GARBAGE, None])
async def test_every_call(store: "redis.Redis", redis_url: str, database_url: str, garbage: bytes | None) -> None:
    job_id = uuid4()
    put(store, result_key(job_id), garbage)
    for url in (None, database_url):
        with PatternStorageClient(database_url=url, redis_url=redis_url) as client:
            job = client.get(job_id)
            assert job.status() == "FAILURE"
            assert job.progress() is None
            assert job.result(timeout=0).metadata["error_type"] == "unreadable_result"
        async with AsyncPatternStorageClient(database_url=url, redis_url=redis_url) as other:
            again = other.get(job_id)
            assert await again.status() == "FAILURE"
            assert await again.progress() is None
            assert (await again.result(timeout=0)).metadata["error_type"] == "unreadable_result"


@pytest.mark.parametrize("garbage", [b"not json", None])
def test_cancelling_says_revoked(
    store: "redis.Redis", redis_url: str, database_url: str, garbage: bytes | None
) -> None:
    """The ledger has decided by the time Redis is read, so nothing there may fail the call."""
    with PatternStorageClient(database_url=database_url, redis_url=redis_url) as client:
        job = client.insert(make_pattern())
        put(store, result_key(job.correlation_id), garbage)
        assert job.cancel().metadata["error_type"] == "revoked"
        assert job.status() == "REVOKED"
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT count(*) FROM job_ledger").fetchone() == (1,)


def test_postgresql_knows_better(store: "redis.Redis", redis_url: str, database_url: str) -> None:
    with PatternStorageClient(database_url=database_url, redis_url=redis_url) as client:
        job = client.insert(make_pattern())
        job.cancel()
        put(store, result_key(job.correlation_id), b"not json")
        assert job.status() == "REVOKED"
        assert job.result(timeout=5).metadata["error_type"] == "revoked"
