"""`health`: whether a service can work, which is more than that it lives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis

from storage import roles
from storage.errors import RoleUnknown
from tests import fix_cli
from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli, Said
from tests.fix_storage import contract, make_pattern

cli = fix_cli.cli

Urls = dict[str, Any]


@pytest.fixture
def urls(database_url: str, redis_url: str) -> Urls:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


def test_a_worker_that_works(cli: Cli, worker: StorageWorker) -> None:
    urls: Urls = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}
    assert cli("health", "worker", "--name", worker.hostname(), **urls) == Said(0, "ok\n", "")


def test_a_worker_that_does_not_answer(cli: Cli, urls: Urls) -> None:
    said = cli("health", "worker", "--name", "celery@nobody", PATTERN_STORAGE_CONNECT_TIMEOUT="0.5", **urls)
    assert said == Said(1, "", "celery@nobody does not answer\n")


def test_a_relay(cli: Cli, urls: Urls) -> None:
    """It is well until a job has waited too long."""
    assert cli("health", "relay", **urls).code == 0
    with psycopg.connect(urls["DATABASE_URL"]) as connection:
        connection.execute("SELECT enqueue_pattern_job(%s::jsonb)", [
            contract("insert", data=make_pattern()).model_dump_json(),
        ])  # fmt: skip
        assert cli("health", "relay", **urls).code == 0
        connection.execute("UPDATE outbox SET created_at = now() - interval '200 seconds'")
    said = cli("health", "relay", **urls)
    assert said.code == 1
    assert "s in the outbox; 120 s are allowed" in said.error
    assert cli("health", "relay", "--oldest", "3600", **urls).code == 0


def test_a_database_that_takes_no_writes(cli: Cli, urls: Urls) -> None:
    url = f"{urls['DATABASE_URL']}?options=-c%20default_transaction_read_only%3Don"
    said = cli("health", "relay", **urls | {"DATABASE_URL": url})
    assert (said.code, "takes no writes from this role" in said.error) == (1, True)


def test_a_redis_that_takes_no_writes(cli: Cli, urls: Urls, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", "1")
        try:
            said = cli("health", "relay", **urls)
        finally:
            server.config_set("maxmemory", "0")
    assert (said.code, "Redis takes no writes" in said.error) == (3, True)


def test_no_database(cli: Cli, urls: Urls, absent_url: str) -> None:
    url = absent_url.replace("redis", "postgresql")
    assert cli("health", "relay", **urls | {"DATABASE_URL": url}).code == 3


@contextmanager
def service_role(url: str, name: str) -> Iterator[str]:
    """A role that can log in and nothing else; yields its URL."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
        try:
            yield url.replace(url.split("//")[1].split("@")[0], f"{name}:secret")
        finally:
            owner.execute(f"DROP OWNED BY {name}")
            owner.execute(f"DROP ROLE {name}")


def test_migrate_gives_rights(cli: Cli, database_url: str, redis_url: str) -> None:
    with service_role(database_url, "health_service") as url:
        before = cli("health", "relay", DATABASE_URL=url, REDIS_URL=redis_url)
        assert (before.code, "no rights" in before.error) == (1, True)
        said = cli("migrate", "--grant-to", "health_service", DATABASE_URL=database_url)
        assert "rights: health_service may read and write the tables" in said.out
        assert cli("health", "relay", DATABASE_URL=url, REDIS_URL=redis_url).code == 0


def test_a_role_that_does_not_exist(cli: Cli, database_url: str) -> None:
    said = cli("migrate", "--grant-to", 'no"body', DATABASE_URL=database_url)
    assert said.code == 2
    assert "There is no database role 'no\"body'" in said.error
    with pytest.raises(RoleUnknown):
        roles.grant(database_url, "nobody at all")


def test_rights_are_not_given_on_the_way_down(cli: Cli, database_url: str) -> None:
    said = cli("migrate", "--down-to", "base", "--grant-to", "anybody", DATABASE_URL=database_url)
    assert (said.code, "--grant-to is given with --down-to" in said.error) == (2, True)
