"""A connection says itself what our code depends on, and leaves the user what is theirs, wherever they say it."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pattern_storage.storage import NodePatternStorageEffect, dead_letters, import_runs, schema
from pattern_storage.storage.connection import check_database, connect, parameters
from pattern_storage.storage.errors import ServerUnavailable
from pattern_storage.storage.model_contract_pattern_storage import ModelResult
from pattern_storage.storage.pool import create_pool
from pattern_storage.storage.setup_errors import ConninfoInvalid, DatabaseUnsuitable
from pattern_storage.vocabulary import ErrorType
from tests.fix_servers import drop_database, on_database
from tests.fix_storage import contract, make_pattern, succeed

#: How an administrator, or another application, may have set up a database.
HOSTILE = {
    "client_encoding": "latin1",
    "datestyle": "German, DMY",
    "intervalstyle": "iso_8601",
    "timezone": "Asia/Kathmandu",
    "extra_float_digits": "-10",
}
#: How a user's shell may be set up.
HOSTILE_VARIABLES = {"PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "German", "PGTZ": "Asia/Kathmandu"}


@pytest.fixture(params=["database", "environment", "url"])
def hostile_url(request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database whose defaults are not what our code depends on."""
    if request.param == "environment":
        for name, value in HOSTILE_VARIABLES.items():
            monkeypatch.setenv(name, value)
    elif request.param == "url":
        options = " ".join(f"-c {name}={value.replace(' ', '')}" for name, value in HOSTILE.items())
        return f"{database_url}?client_encoding=latin1&options={quote(options)}"
    else:
        with psycopg.connect(database_url, autocommit=True) as connection:
            database = Identifier(connection.info.dbname)
            for setting, value in HOSTILE.items():
                connection.execute(SQL("ALTER DATABASE {} SET {} = {}").format(database, Identifier(setting), value))
    return database_url


async def test_defaults_of_server_and_user_do_not_matter(hostile_url: str) -> None:
    stored = make_pattern(pattern_name="café €", confidence_score=0.1 + 0.2)
    async with create_pool(hostile_url, min_size=1, max_size=1) as pool:
        node = NodePatternStorageEffect(pool)
        made = await succeed(node, "insert", data=stored)
        found = await succeed(node, "query", query_params={"pattern_name": "café €"})
        assert found["patterns"][0]["confidence_score"] == 0.1 + 0.2
        assert found["patterns"][0]["created_at"] == made["created_at"]
        assert datetime.fromisoformat(made["created_at"]).tzinfo == UTC
        failed = ModelResult.failure("é", ErrorType.CONNECTION_LOST, correlation_id="x", operation="insert")
        async with pool.connection() as one:
            await dead_letters.add(one, contract("insert", data=stored), failed, attempts=1)
            assert [letter.error for letter in await dead_letters.fetch(one)] == ["é"]
            await import_runs.add(one, uuid4(), "café", datetime(2026, 1, 31, 12, tzinfo=UTC), {})
            assert [run.due for run in await import_runs.history(one)] == [datetime(2026, 1, 31, 12, tzinfo=UTC)]
            async with one.cursor() as cursor, cursor.copy("COPY pattern_templates (pattern_name) TO STDOUT") as copy:
                assert [row async for row in copy.rows()] == [("café €",)]


@pytest.fixture
def unsuitable_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """A database of another encoding than UTF8."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        statement = SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 LOCALE 'C'")
        connection.execute(statement.format(Identifier(name), request.param))
    yield on_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.mark.parametrize("unsuitable_url", ["LATIN1", "SQL_ASCII"], indirect=True)
async def test_a_database_that_cannot_hold_our_texts(unsuitable_url: str) -> None:
    for refused in (schema.upgrade, schema.current, lambda url: check_database(url, timeout=5)):
        with pytest.raises(DatabaseUnsuitable, match=r"cannot hold every text; .* ENCODING 'UTF8' TEMPLATE template0"):
            refused(unsuitable_url)
    with pytest.raises(DatabaseUnsuitable):
        await connect(unsuitable_url, application_name="test", timeout=5)


async def test_what_cannot_be_reached_now_is_not_refused() -> None:
    check_database("postgresql://127.0.0.1:1/x", timeout=2)
    # Not "lost": there was no connection.
    with pytest.raises(ServerUnavailable, match=r"^cannot connect to PostgreSQL: "):
        await connect("postgresql://127.0.0.1:1/x", application_name="test", timeout=2)
    with pytest.raises(ConninfoInvalid):
        check_database("postgresql://127.0.0.1:1/x?sslmod=x", timeout=2)


@pytest.fixture(params=["url", "PGOPTIONS", "service file", "PGSERVICE", "role"])
def schema_url(
    request: pytest.FixtureRequest, empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """A database whose user has said in one of many ways that everything belongs into the schema `myapp`."""
    options = "-c search_path=myapp,public"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA myapp")
        if request.param == "role":
            name = Identifier(connection.info.dbname)
            connection.execute(SQL("ALTER DATABASE {} SET search_path = myapp, public").format(name))
    if request.param == "url":
        return f"{empty_database_url}?options={quote(options)}"
    if request.param == "PGOPTIONS":
        monkeypatch.setenv("PGOPTIONS", options)
    if request.param in ("service file", "PGSERVICE"):
        (tmp_path / "services").write_text(f"[mine]\noptions={options}\n")
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        if request.param == "service file":
            return f"{empty_database_url}?service=mine"
        monkeypatch.setenv("PGSERVICE", "mine")
    return empty_database_url


async def test_migrations_and_jobs_agree_on_the_schema(schema_url: str) -> None:
    schema.upgrade(schema_url)
    assert schema.current(schema_url) == schema.head()
    async with create_pool(schema_url, statement_timeout=30.0, lock_timeout=3.0) as pool:
        await succeed(NodePatternStorageEffect(pool), "insert", data=make_pattern())
        async with pool.connection() as one:
            row = await (await one.execute("SELECT count(*) FROM myapp.pattern_templates")).fetchone()
            assert row == (1,)
            row = await (await one.execute("SELECT to_regclass('public.pattern_templates')")).fetchone()
            assert row == (None,)
            for setting, value in (("statement_timeout", "30s"), ("lock_timeout", "3s")):
                assert await (await one.execute(f"SHOW {setting}".encode())).fetchone() == (value,)


async def test_pooled_connections_may_be_idle(database_url: str) -> None:
    """Where the server ends idle sessions, each job after a quiet time would find its connection gone."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        if connection.info.server_version < 140_000:
            pytest.skip("PostgreSQL before 14 has no idle_session_timeout")
        database = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET idle_session_timeout = '1s'").format(database))
    async with create_pool(database_url) as pool, pool.connection() as one:
        assert await (await one.execute("SHOW idle_session_timeout")).fetchone() == ("0",)


async def test_the_users_own_timeouts_and_name_stand(database_url: str) -> None:
    options = quote("-c statement_timeout=7s")
    url = f"{database_url}?options={options}&application_name=mine"
    async with create_pool(url, statement_timeout=30.0, lock_timeout=3.0) as pool, pool.connection() as one:
        settings = {"statement_timeout": "7s", "lock_timeout": "3s", "application_name": "mine"}
        for setting, value in settings.items():
            assert await (await one.execute(f"SHOW {setting}".encode())).fetchone() == (value,)


def test_the_time_to_connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def seconds(url: str, timeout: float) -> Any:
        return parameters(url, application_name="x", timeout=timeout).get("connect_timeout")

    assert seconds("postgresql://one/x", 10) == 10
    assert seconds("postgresql://one,two/x", 10) == 5
    assert seconds("host=one,two,three dbname=x", 5) == 2
    # None of ours beside the user's.
    assert seconds("postgresql://one/x?connect_timeout=3", 10) is None
    (tmp_path / "services").write_text("[mine]\nhost=one,two\nport=1,2\nconnect_timeout=4\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert seconds("service=mine", 10) == "4"
    assert parameters("service=mine", application_name="x", timeout=10)["host"] == "one,two"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "6")
    assert seconds("postgresql://one/x", 10) is None


async def test_a_first_host_that_accepts_and_stays_silent(database_url: str) -> None:
    """It does not eat the time that a job waits for a connection: the second host is tried within it."""
    parts = urlsplit(database_url)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},{parts.hostname}:{parts.port}"
        url = parts._replace(netloc=f"{parts.username}:{parts.password}@{hosts}").geturl()
        async with create_pool(url, min_size=1, max_size=1, timeout=8.0) as pool:
            await succeed(NodePatternStorageEffect(pool), "insert", data=make_pattern())
