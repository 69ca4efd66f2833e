"""The workers' result backend without a worker, and what it is given to store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.config.settings import Settings
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.tasks.sender import create_app
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend


@pytest.fixture
def task_id() -> str:
    return str(uuid4())


@pytest.fixture
def no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is the process's, and that of an earlier test is over."""
    monkeypatch.setattr(StorageRedisBackend, "_outage_began", None)
    monkeypatch.setattr(StorageRedisBackend, "_last_failure", float("-inf"))
    monkeypatch.setattr(StorageRedisBackend, "_backoff", ReconnectBackoff("cannot store results, jobs go on", "worker"))


@contextmanager
def backend_of(url: str) -> Iterator[StorageRedisBackend]:
    # Not with this module, which pytest loads first: an application without settings may not be the current one yet.
    from pattern_storage.tasks.celery_app import BACKENDS

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


def outcome(operation: str = "insert", **metadata: Any) -> dict[str, Any]:
    return {"success": True, "data": {}, "error": None, "metadata": {"operation": operation, **metadata}}


def failure() -> StorageOperationFailed:
    return StorageOperationFailed(
        {"success": False, "data": None, "error": "no", "metadata": {"operation": "insert", "error_type": "x"}}
    )


#: What is stored with each state; every state that it has is final.
VALUES: dict[str, Any] = {"SUCCESS": outcome(), "FAILURE": failure(), "REVOKED": Exception("revoked")}


def value(state: str) -> Any:
    return Exception("again") if state == "RETRY" else VALUES.get(state, {"pid": 1})
