"""The outbox: an application, a relay, and what is on the queue."""

import json
from collections.abc import Callable, Iterator
from typing import Any, LiteralString

import psycopg
import pytest
import redis

from pattern_storage.storage import ModelContractPatternStorage
from tests.fix_process import ProcessGroup, wait_until
from tests.fix_storage import contract, make_pattern


def insertion(**fields: Any) -> ModelContractPatternStorage:
    """Return the contract of an insert."""
    return contract("insert", data=make_pattern(), **fields)


@pytest.fixture
def application(database_url: str) -> Iterator[psycopg.Connection]:
    """An application's own connection, in a transaction."""
    with psycopg.connect(database_url) as connection:
        yield connection


@pytest.fixture
def relay(start_process: Callable[..., ProcessGroup], database_url: str, redis_url: str) -> ProcessGroup:
    """A running relay."""
    started = start_process("pattern_storage", "relay", DATABASE_URL=database_url, REDIS_URL=redis_url)
    wait_until(lambda: "relay: started" in started.text(), "the relay has started")
    return started


def fetch(database_url: str, statement: LiteralString, values: Any = None) -> list[Any]:
    """Return the rows of a statement, on a connection of its own."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        return connection.execute(statement, values).fetchall()


def queued(redis_url: str, queue: str = "storage") -> list[str]:
    """Return the ids of the messages on a queue, the oldest first."""
    with redis.Redis.from_url(redis_url) as server:
        messages: Any = server.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(messages)]
