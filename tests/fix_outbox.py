"""The outbox: an application, a relay, and what is on the queue."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
import redis

from pattern_storage.storage import ModelContractPatternStorage, outbox
from tests.fix_process import ProcessGroup, StartProcess, wait_until
from tests.fix_servers import messages_on
from tests.fix_storage import contract, fetch, make_pattern


def insertion(**fields: Any) -> ModelContractPatternStorage:
    """Return the contract of an insert."""
    return contract("insert", data=make_pattern(), **fields)


@pytest.fixture
def application(database_url: str) -> Iterator[psycopg.Connection]:
    """An application's own connection, in a transaction."""
    with psycopg.connect(database_url) as connection:
        yield connection


@pytest.fixture
def start_relay(start_process: StartProcess, database_url: str, redis_url: str) -> StartProcess:
    """Start `pattern-storage relay` on this test's servers."""

    def start(**variables: str) -> ProcessGroup:
        return start_process(
            "pattern_storage", "relay", **{"DATABASE_URL": database_url, "REDIS_URL": redis_url} | variables
        )

    return start


@pytest.fixture
def relay(start_relay: StartProcess) -> ProcessGroup:
    """A running relay."""
    started = start_relay()
    wait_until(lambda: "relay: started" in started.text(), "the relay has started")
    return started


def queued(redis_url: str, queue: str = "storage") -> list[str]:
    """Return the ids of the messages on a queue, the oldest first."""
    with redis.Redis.from_url(redis_url) as store:
        return [message["headers"]["id"] for message in messages_on(store, queue)]


def write_jobs(database_url: str, count: int, size: int = 50) -> list[str]:
    """Write that many inserts into the outbox, `size` in a transaction; return their ids."""
    ids = []
    with psycopg.connect(database_url) as application:
        for start in range(0, count, size):
            for _ in range(min(size, count - start)):
                asked = contract("insert", data=make_pattern())
                outbox.add_sync(application, asked)
                ids.append(str(asked.correlation_id))
            application.commit()
    return ids


def number(database_url: str, statement: LiteralString) -> int:
    """Return the number that a statement asks for."""
    [(found,)] = fetch(database_url, statement)
    return int(found)


def unpublished(database_url: str) -> int:
    """Return how many jobs wait to be published."""
    return number(database_url, "SELECT count(*) FROM outbox WHERE published = 0")


def assert_done_once(database_url: str, count: int) -> None:
    """Return once every job is done; fail if an effect is missing or happened twice."""
    wait_until(lambda: number(database_url, "SELECT count(*) FROM outbox") == 0, "the outbox is empty")
    assert number(database_url, "SELECT count(*) FROM pattern_templates") == count
    assert number(database_url, "SELECT count(*) FROM job_ledger WHERE (result ->> 'success')::bool") == count
    assert number(database_url, "SELECT count(*) FROM job_ledger") == count


def relay_connections(database_url: str) -> list[int]:
    """Return the server processes that relays are connected to."""
    statement = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%relay'"
    return [pid for (pid,) in fetch(database_url, statement)]
