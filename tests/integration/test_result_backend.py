"""The workers' result backend on a real Valkey: final states stand, other applications read them, refusals are told."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery._state import _task_stack  # type: ignore[attr-defined]  # unknown to celery-types
from celery.exceptions import Reject
from celery.result import AsyncResult

from pattern_storage.config.settings import Settings
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.celery_app import BACKENDS
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.status import mark_queued, marker
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.tasks.sender import create_app
from pattern_storage.tasks.worker import result_backend
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend
from pattern_storage.vocabulary import JobState
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern


@pytest.fixture
def task_id() -> str:
    return str(uuid4())


@pytest.fixture(autouse=True)
def no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is the process's, and that of an earlier test is over."""
    monkeypatch.setattr(StorageRedisBackend, "_outage_began", None)
    monkeypatch.setattr(StorageRedisBackend, "_last_failure", float("-inf"))
    monkeypatch.setattr(StorageRedisBackend, "_backoff", ReconnectBackoff("cannot store results, jobs go on", "worker"))


@contextmanager
def backend_of(url: str) -> Iterator[StorageRedisBackend]:
    with create_app(Settings(redis_url=url)) as app:
        app.loader.override_backends = BACKENDS
        found = app.backend
        assert isinstance(found, StorageRedisBackend)
        yield found
        found.client.close()


@pytest.fixture
def backend(redis_url: str) -> Iterator[StorageRedisBackend]:
    with backend_of(redis_url) as found:
        yield found


@pytest.fixture
def plain(redis_url: str) -> Iterator[Celery]:
    with Celery("plain", broker=redis_url, backend=redis_url, set_as_current=False) as app:
        yield app


def outcome(operation: str = "insert", **metadata: Any) -> dict[str, Any]:
    return {"success": True, "data": {}, "error": None, "metadata": {"operation": operation, **metadata}}


def failure() -> StorageOperationFailed:
    return StorageOperationFailed(
        {"success": False, "data": None, "error": "no", "metadata": {"operation": "insert", "error_type": "x"}}
    )


VALUES: dict[str, Any] = {"SUCCESS": outcome(), "FAILURE": failure(), "REVOKED": Exception("revoked")}
FINAL = list(VALUES)
UNFINISHED = ["STARTED", "PROGRESS", "RETRY", "RECEIVED"]


def value(state: str) -> Any:
    return Exception("again") if state == "RETRY" else VALUES.get(state, {"pid": 1})


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
    assert backend.store_many([(recorded, RecordedResult(True, text), "SUCCESS", None)]) == []
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
        assert (
            backend.store_many([(one, value(state), state, None) for one, state in zip(ids, states, strict=True)]) == []
        )
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


@pytest.fixture
def full(lone_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.Redis"]:
    """A server that is full, and waits that end at once."""
    monkeypatch.setattr(result_backend, "WAIT", 0.3)
    monkeypatch.setattr(result_backend, "SKIP", 0.0)
    with redis.Redis.from_url(lone_valkey.url) as store:
        store.config_set("maxmemory-policy", "noeviction")
        store.config_set("maxmemory", 1)
        yield store


def test_a_full_server_is_told_once_and_nothing_raises(
    full: "redis.Redis", lone_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture, task_id: str
) -> None:
    with backend_of(lone_valkey.url) as backend:
        backend.store_result(task_id, value("STARTED"), "STARTED")
        for _ in range(3):
            backend.store_result(task_id, outcome(request="aa"), "SUCCESS")
        # A query's rows stand nowhere else.
        query = str(uuid4())
        stored = [(task_id, outcome(request="aa"), "SUCCESS", None), (query, outcome("query"), "SUCCESS", None)]
        assert backend.store_many(stored) == [query]
        refused = str(uuid4())
        assert backend.store_many([(refused, failure(), "FAILURE", None)]) == [refused]
        [told] = [record for record in caplog.records if "cannot store results" in record.message]
        assert "maxmemory" in told.message
        full.config_set("maxmemory", 0)
        assert backend.store_many(stored) == []
        assert backend.get_task_meta(query, cache=False)["status"] == "SUCCESS"


def test_a_query_is_handed_back_where_its_rows_would_be_lost(
    full: "redis.Redis", lone_valkey: EmbeddedValkey, task_id: str
) -> None:
    with backend_of(lone_valkey.url) as backend:
        # As in the tracer, which knows the task that it runs.
        _task_stack.push(object())
        try:
            with pytest.raises(Reject, match=r"PostgreSQL does not have it.*True"):
                backend.store_result(task_id, outcome("query"), "SUCCESS")
        finally:
            _task_stack.pop()


def test_a_refusal_that_passes_is_waited_for(
    lone_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, task_id: str
) -> None:
    """The server has room again while the job waits."""
    monkeypatch.setattr(result_backend, "WAIT", DEADLINE)
    monkeypatch.setattr(result_backend, "MAIN_WAIT", DEADLINE)
    with redis.Redis.from_url(lone_valkey.url) as store, backend_of(lone_valkey.url) as backend:
        store.config_set("maxmemory", 1)
        with monkeypatch.context() as waiting:
            waiting.setattr(time, "sleep", lambda _: store.config_set("maxmemory", 0))
            backend.store_result(task_id, outcome(request="aa"), "SUCCESS")
        assert backend.get_task_meta(task_id)["status"] == "SUCCESS"


def test_a_server_that_is_away(absent_url: str, monkeypatch: pytest.MonkeyPatch, task_id: str) -> None:
    monkeypatch.setattr(result_backend, "WAIT", 0.3)
    with backend_of(absent_url) as backend:
        backend.store_result(task_id, value("STARTED"), "STARTED")
        assert backend.store_many([(task_id, outcome(request="aa"), "SUCCESS", None)]) == []
        assert backend.store_many([(task_id, outcome("query"), "SUCCESS", None)]) == [task_id]


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
