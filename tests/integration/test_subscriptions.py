"""Subscriptions of the synchronous client, on a real server."""

import json
import threading
import time
from typing import Any

import pytest

from pattern_storage import PatternStorageClient, ResultBackendUnavailable
from tests.fix_process import DEADLINE
from tests.fix_storage import make_pattern

REVOKED = b'{"status": "REVOKED", "result": null}'


@pytest.fixture
def others(store: Any) -> set[str]:
    """Connections of earlier tests that are subscribed, closing or never closed."""
    return {one["id"] for one in store.client_list(_type="pubsub")}


def subscriber(store: Any, channel: str, others: set[str]) -> Any:
    """The connection that is subscribed to a channel, once there is one."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if store.pubsub_numsub(channel)[0][1]:
            subscribed = [one for one in store.client_list(_type="pubsub") if int(one["sub"]) == 1]
            if len(found := [one for one in subscribed if one["id"] not in others]) == 1:
                return found[0]
        time.sleep(0.005)
    raise AssertionError("nobody subscribed")


def in_thread(wait: Any) -> tuple[threading.Thread, list[Any]]:
    """Call it in a thread; return that, and a list of what it returned."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(wait()))
    thread.start()
    return thread, found


def test_a_connection_that_is_lost_while_waiting(redis_url: str, store: Any, others: set[str]) -> None:
    """It is subscribed again."""
    with PatternStorageClient(redis_url=redis_url) as client:
        for _ in range(2):
            job = client.insert(make_pattern())
            key = f"celery-task-meta-{job.correlation_id}"
            thread, found = in_thread(lambda job=job: job.result(DEADLINE))
            lost = subscriber(store, key, others)
            store.client_kill_filter(_id=lost["id"])
            assert subscriber(store, key, others)["id"] != lost["id"]
            assert store.publish(key, REVOKED) == 1
            thread.join()
            assert found[0].metadata["error_type"] == "revoked"
        assert len(client._subscriptions._idle) == 1


def test_an_idle_connection_that_was_lost(redis_url: str, store: Any) -> None:
    with PatternStorageClient(redis_url=redis_url) as client:
        for _ in range(2):
            job = client.insert(make_pattern())
            store.set(f"celery-task-meta-{job.correlation_id}", REVOKED)
            assert job.result(DEADLINE).metadata["error_type"] == "revoked"
            for one in store.client_list(_type="pubsub"):
                store.client_kill_filter(_id=one["id"])


def test_the_last_job_is_left_with_the_next(redis_url: str, store: Any, others: set[str]) -> None:
    """What is published about it meanwhile is nobody's result."""
    with PatternStorageClient(redis_url=redis_url) as client:
        keys = []
        for number in range(3):
            job = client.insert(make_pattern())
            keys.append(f"celery-task-meta-{job.correlation_id}")
            thread, found = in_thread(lambda job=job: job.result(DEADLINE))
            assert int(subscriber(store, keys[-1], others)["sub"]) == 1
            # Nobody listens to the one before any more.
            assert store.publish(keys[max(number - 1, 0)], REVOKED) == (number == 0)
            store.publish(keys[-1], REVOKED)
            thread.join()
            assert found[0].metadata["correlation_id"] == str(job.correlation_id)
            store.publish(keys[-1], REVOKED)


def test_a_large_document_comes_in_pieces(redis_url: str, store: Any) -> None:
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.insert(make_pattern())
        data = {"success": True, "data": {"text": "x" * 3_000_000}, "error": None, "metadata": {}}
        store.set(f"celery-task-meta-{job.correlation_id}", json.dumps({"status": "SUCCESS", "result": data}))
        assert len(job.result(DEADLINE).data["text"]) == 3_000_000


def test_a_server_that_forbids_it(redis_url: str, store: Any) -> None:
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.insert(make_pattern())
        store.execute_command("ACL", "SETUSER", "default", "-subscribe")
        try:
            with pytest.raises(ResultBackendUnavailable, match="subscribe"):
                job.result(DEADLINE)
        finally:
            store.execute_command("ACL", "SETUSER", "default", "+@all")
        assert not client._subscriptions._idle
