"""All that a job can go through, as one example: to be run by way of every server that a deployment may choose."""

from typing import Any

import psycopg

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import locked_patterns
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern

#: Of the worker: a job that finds its table locked soon gives up, and does so as often as it takes.
PATIENT = {"PATTERN_STORAGE_LOCK_TIMEOUT": "0.3", "PATTERN_STORAGE_MAX_ATTEMPTS": "1000"}


def do_everything(client: PatternStorageClient, database_url: str) -> None:
    """Do the five operations, fail one, retry one, and write one in a transaction; a worker and a relay have to run.

    `database_url` leads to PostgreSQL itself; the worker has to give up a lock soon.
    """
    pattern = make_pattern()
    stored = succeed(client.insert(pattern).result(DEADLINE))
    assert succeed(client.update(stored["pattern_id"], {"usage_count": 3}).result(DEADLINE))["fields_updated"]
    twice = client.insert(pattern).result(DEADLINE)
    assert (twice.success, twice.metadata["error_type"]) == (False, "unique_violation")
    assert succeed(client.batch_insert([make_pattern() for _ in range(20)]).result(DEADLINE))["count"] == 20
    [found] = succeed(client.query(pattern_name=pattern["pattern_name"]).result(DEADLINE))["patterns"]
    assert found["usage_count"] == 3
    assert succeed(client.delete(stored["pattern_id"]).result(DEADLINE))["deleted"]

    with locked_patterns(database_url):
        waiting = client.insert(make_pattern())
        wait_until(lambda: waiting.status() == "RETRY", "the job is retried")
    assert succeed(waiting.result(DEADLINE))

    with psycopg.connect(database_url) as connection:
        written = client.submit_in(connection, contract("insert", data=make_pattern()))
        assert written.status() == "UNKNOWN"
    assert succeed(written.result(DEADLINE))
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchall() == [(0,)]


def succeed(result: ModelResult) -> Any:
    """Return the data of a job that has to have succeeded."""
    assert result.success, result
    return result.data
