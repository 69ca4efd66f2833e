"""`health`: whether a service can work, which is more than that it lives."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from pattern_storage.config.settings import Settings
from pattern_storage.storage import roles
from pattern_storage.storage.setup_errors import RoleUnknown
from pattern_storage.tasks.imports.plan.imports_file import load_entries
from pattern_storage.tasks.imports.plan.planner import Planner
from pattern_storage.tasks.sender import create_app
from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli, Said
from tests.fix_process import free_port
from tests.fix_storage import contract, make_pattern

Urls = dict[str, Any]


#: Of these, only the second has been due in the last 20 minutes, except in the first hours of a year.
IMPORTS = """
[[import]]
name = "yearly"
source = "a.csv"
schedule = "30 2 1 1 *"

[[import]]
name = "often"
source = "a.csv"
every = "5m"

[[import]]
name = "by-hand"
source = "a.csv"
"""


@pytest.fixture
def urls(database_url: str, redis_url: str) -> Urls:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


def test_a_worker_that_works(cli: Cli, worker: StorageWorker) -> None:
    urls: Urls = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}
    assert cli("health", "worker", "--name", worker.hostname(), **urls) == Said(0, "ok\n", "")
    said = cli("health", "worker", "--name", worker.hostname(), "--json", **urls)
    assert (said.code, said.json) == (0, {"service": "worker", "ok": True, "reason": None})


def test_a_worker_that_does_not_answer(cli: Cli, urls: Urls) -> None:
    said = cli("health", "worker", "--name", "celery@nobody", PATTERN_STORAGE_CONNECT_TIMEOUT="0.5", **urls)
    assert said == Said(1, "", "celery@nobody does not answer\n")
    said = cli("health", "worker", "--name", "celery@nobody", "--json", PATTERN_STORAGE_CONNECT_TIMEOUT="0.5", **urls)
    assert (said.code, said.error) == (1, "")
    assert said.json == {"service": "worker", "ok": False, "reason": "celery@nobody does not answer"}


def test_a_relay(cli: Cli, urls: Urls) -> None:
    """It is well until a job has waited too long."""
    assert cli("health", "relay", **urls).code == 0
    with psycopg.connect(urls["DATABASE_URL"]) as connection:
        connection.execute("SELECT enqueue_pattern_job(%s::jsonb)", [
            contract("insert", data=make_pattern()).model_dump_json(),
        ])  # fmt: skip
        assert cli("health", "relay", **urls).code == 0
        connection.execute("UPDATE outbox SET publish_after = now() - interval '200 seconds'")
    said = cli("health", "relay", **urls)
    assert said.code == 1
    assert "s in the outbox; 120 s are allowed" in said.error
    assert cli("health", "relay", "--oldest", "3600", **urls).code == 0


def test_beat(cli: Cli, urls: Urls, tmp_path: Path) -> None:
    """It is well while it writes its file, and until an import that was due was not decided."""
    ask = partial(cli, "health", "beat", "--schedule", str(tmp_path / "beat"))
    said = ask(**urls)
    assert said == Said(1, "", f"beat has written no {tmp_path / 'beat'}\n")
    written = tmp_path / "beat.db"  # what some of Python's databases make of the name
    written.touch()
    assert ask(**urls) == Said(0, "ok\n", "")
    file = tmp_path / "imports.toml"
    file.write_text(IMPORTS)
    urls |= {"PATTERN_STORAGE_IMPORTS_FILE": str(file)}
    said = ask(**urls)
    assert (said.code, "no beat follows import 'yearly'" in said.error) == (1, True)
    settings = Settings(database_url=urls["DATABASE_URL"], redis_url=urls["REDIS_URL"])
    with create_app(settings) as app:
        Planner(settings, load_entries(file), app).tick()
    assert ask(**urls).code == 0
    with psycopg.connect(urls["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("UPDATE import_schedules SET decided_until = now() - interval '20 minutes'")
    said = ask(**urls)
    assert (said.code, said.out) == (1, "")
    assert said.error.startswith("import 'often' was due at ")
    assert ask("--oldest", "3600", **urls).code == 0
    # Without a database, beat plans nothing.
    assert ask(REDIS_URL=urls["REDIS_URL"]).code == 0
    os.utime(written, (0, 0))
    said = ask(REDIS_URL=urls["REDIS_URL"])
    assert (said.code, "it does every three minutes" in said.error) == (1, True)


@pytest.mark.parametrize("service", ["beat", "flower", "relay"])
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_no_broker(cli: Cli, urls: Urls, absent_url: str, service: str, scheme: str) -> None:
    broker = absent_url.replace("redis", scheme)
    said = cli("health", service, **urls, BROKER_URL=broker, PATTERN_STORAGE_CONNECT_TIMEOUT="1")
    assert said.code == 3, said
    assert said.out == ""


def test_no_flower(cli: Cli, urls: Urls) -> None:
    said = cli("health", "flower", PATTERN_STORAGE_FLOWER_PORT=str(free_port()), REDIS_URL=urls["REDIS_URL"])
    assert (said.code, said.error.startswith("Flower does not answer at http://127.0.0.1:")) == (1, True)


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
