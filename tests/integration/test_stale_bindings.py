"""Sets of bindings in Redis that grow with every process which is killed: a worker that starts empties large ones."""

from collections.abc import Callable

import pytest

from pattern_storage.config.settings import load_settings
from pattern_storage.tasks.cli.remote_control import broadcast
from pattern_storage.tasks.sender import create_app
from pattern_storage.tasks.worker.stale_bindings import LIMIT
from tests.fix_celery import StorageWorker
from tests.fix_process import wait_until
from tests.fix_servers import Store

SETS = ("celeryev", "celery.pidbox", "reply.celery.pidbox")


def leave(store: Store, prefix: str, count: int) -> None:
    """Leave so many bindings as killed processes do."""
    for name in SETS:
        # Routing key, pattern and queue; kombu separates them so.
        store.sadd(f"{prefix}_kombu.binding.{name}", *(f"{n}\x06\x16\x06\x16{n}.reply" for n in range(count)))


@pytest.mark.parametrize("prefix", ["", "team-a:"])
def test_a_worker_empties_sets_that_have_grown_too_large(
    store: Store, redis_url: str, database_url: str, start_worker: Callable[..., StorageWorker], prefix: str
) -> None:
    variables = {"PATTERN_STORAGE_KEY_PREFIX": prefix} if prefix else {}
    leave(store, prefix, LIMIT + 1)
    worker = start_worker(concurrency=1, env=variables)
    wait_until(
        lambda: all(store.scard(f"{prefix}_kombu.binding.{name}") < LIMIT for name in SETS), "the sets are emptied"
    )
    assert "removed 1001 bindings of reply.celery.pidbox" in worker.logs()
    settings = load_settings(redis_url=redis_url, database_url=database_url, key_prefix=prefix)
    with create_app(settings) as app:
        assert [name for name, _ in broadcast(app, "ping", 10.0, [worker.hostname()])] == [worker.hostname()]
        leave(store, prefix, LIMIT)
        # A set of usual size is left alone: somebody may wait for answers.
        start_worker(concurrency=1, env=variables)
        assert broadcast(app, "ping", 10.0, [worker.hostname()])
    assert store.scard(f"{prefix}_kombu.binding.reply.celery.pidbox") == LIMIT
