"""The workers' result backend on a real Valkey: final states stand, other applications read them."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.status import mark_queued, marker
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend
from pattern_storage.vocabulary import JobState
from tests.fix_process import wait_until
from tests.fix_result_backend import VALUES, backend_of, outcome, value
from tests.fix_storage import contract, make_pattern

pytestmark = pytest.mark.usefixtures("no_outage")


@pytest.fixture
def plain(redis_url: str) -> Iterator[Celery]:
    with Celery("plain", broker=redis_url, backend=redis_url, set_as_current=False) as app:
        yield app


FINAL = list(VALUES)
UNFINISHED = ["STARTED", "PROGRESS", "RETRY", "RECEIVED"]


@pytest.mark.parametrize("late", UNFINISHED)
@pytest.mark.parametrize("final", FINAL)
def test_a_state_that_is_not_final_never_replaces_a_final_one(
    backend: StorageRedisBackend, plain: Celery, task_id: str, final: str, late: str
) -> None:
    backend.store_result(task_id, value(final), final)
    backend.store_result(task_id, value(late), late)
    assert AsyncResult(task_id, app=plain).state == final


@pytest.mark.parametrize("after", FINAL + UNFINISHED)
def test_nothing_replaces_success(backend: StorageRedisBackend, plain: Celery, task_id: str, after: str) -> None:
    backend.store_result(task_id, {"first": True}, "SUCCESS")
    backend.store_result(task_id, value(after), after)
    found: AsyncResult[Any] = AsyncResult(task_id, app=plain)
    assert found.get() == {"first": True}


@pytest.mark.parametrize("after", FINAL)
@pytest.mark.parametrize("before", ["FAILURE", "REVOKED", *UNFINISHED])
def test_legitimate_transitions(
    backend: StorageRedisBackend, plain: Celery, task_id: str, before: str, after: str
) -> None:
    """A redelivered job may succeed after WorkerLostError, and the ledger decides after Celery's own revoke."""
    backend.store_result(task_id, value(before), before)
    backend.store_result(task_id, value(after), after)
    assert AsyncResult(task_id, app=plain).state == after


@pytest.mark.parametrize("garbage", [b"", b"not json", b"\xff\xfe", b"[]", b"5", b"null", b'{"a": 1}', b"[" * 100_000])
def test_garbage_is_no_state(backend: StorageRedisBackend, task_id: str, garbage: bytes) -> None:
    key = backend.get_key_for_task(task_id)
    backend.client.set(key, garbage)
    assert backend.get_task_meta(task_id)["status"] == "PENDING"
    backend.store_result(task_id, value("STARTED"), "STARTED")
    assert backend.get_task_meta(task_id)["status"] == "STARTED"


def test_a_key_of_another_type_is_replaced(backend: StorageRedisBackend, task_id: str) -> None:
    key = backend.get_key_for_task(task_id)
    backend.client.rpush(key, "a list")
    assert backend.get_task_meta(task_id)["status"] == "PENDING"
    backend.store_result(task_id, value("SUCCESS"), "SUCCESS")
    assert backend.get_task_meta(task_id)["status"] == "SUCCESS"


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_documents_are_celery_s(backend: StorageRedisBackend, plain: Celery) -> None:
    ours, theirs = str(uuid4()), str(uuid4())
    for state in FINAL:
        backend.store_result(ours, value(state), state)
        plain.backend.store_result(theirs, value(state), state)
        documents = [json.loads(backend.client.get(backend.get_key_for_task(one))) for one in (ours, theirs)]
        for document in documents:
            document.pop("task_id")
            document.pop("date_done")
        assert documents[0] == documents[1]
        assert backend.client.ttl(backend.get_key_for_task(ours)) > 0
        backend.client.delete(backend.get_key_for_task(ours), backend.get_key_for_task(theirs))


def test_a_recorded_result_is_stored_as_its_object_would_be(backend: StorageRedisBackend) -> None:
    """Around the JSON of PostgreSQL, which has other spaces, and no escapes where JSON needs none."""
    result = outcome(request="aa") | {"data": {"pattern_name": 'é "\\u2028'}}
    text = json.dumps(result, ensure_ascii=False, separators=(",", " : ")).encode()
    recorded, plain = str(uuid4()), str(uuid4())
    backend.store_many([(recorded, RecordedResult(True, text), "SUCCESS", None)])
    backend.store_result(plain, result, "SUCCESS")
    first, second = (json.loads(backend.client.get(backend.get_key_for_task(one))) for one in (recorded, plain))
    assert (first.pop("task_id"), second.pop("task_id")) == (recorded, plain)
    assert first.pop("date_done") <= second.pop("date_done")
    assert list(first.items()) == list(second.items())
    assert backend.get_task_meta(recorded)["result"] == result


def test_many_at_once_wake_their_waiters(backend: StorageRedisBackend, plain: Celery, redis_url: str) -> None:
    ids = [str(uuid4()) for _ in range(100)]
    states = ["SUCCESS", "FAILURE"] * 50
    waiting: list[AsyncResult[Any]] = [AsyncResult(one, app=plain) for one in ids]
    with redis.Redis.from_url(redis_url) as store, store.pubsub(ignore_subscribe_messages=True) as channel:
        channel.psubscribe("celery-task-meta-*")
        wait_until(lambda: store.pubsub_numpat(), "subscribed")
        # The server was restarted since the script was last used.
        store.script_flush()
        backend.store_many([(one, value(state), state, None) for one, state in zip(ids, states, strict=True)])
        seen: list[str] = []

        def heard() -> bool:
            if message := channel.get_message():
                seen.append(json.loads(message["data"])["task_id"])
            return len(seen) == len(ids)

        wait_until(heard, "all are published")
    assert seen == ids
    assert [one.state for one in waiting] == states
    assert isinstance(waiting[1].result, Exception)


def test_one_round_trip(lone_valkey: EmbeddedValkey) -> None:
    """Commands are counted on a server that no worker of another test publishes on."""
    with backend_of(lone_valkey.url) as backend:
        backend.store_result(str(uuid4()), {}, "STARTED")
        before = backend.client.info("commandstats")
        backend.store_many([(str(uuid4()), outcome(), "SUCCESS", None) for _ in range(50)])
        after = backend.client.info("commandstats")

    def calls(stats: dict[str, Any], command: str) -> int:
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    asked = {name: calls(after, name) - calls(before, name) for name in ("evalsha", "get", "multi", "set", "publish")}
    assert asked == {"evalsha": 1, "get": 0, "multi": 0, "set": 50, "publish": 50}


def test_the_client_s_marker_replaces_nothing(redis_url: str, task_id: str) -> None:
    """QUEUED is written after the message, and a quick worker may have been there first."""
    asked = contract("insert", data=make_pattern(), correlation_id=task_id)
    with closing(redis.Redis.from_url(redis_url)) as store, PatternStorageClient(redis_url=redis_url) as client:
        for state in (JobState.STARTED, JobState.SUCCESS, JobState.FAILURE):
            store.set(f"celery-task-meta-{task_id}", marker(state))
            assert client.submit(asked).status() == state
            # As with a broker that is another server.
            mark_queued(store, [asked.correlation_id], client.settings)
            assert client.get(asked.correlation_id).status() == state
