"""Migrations up and down, started by several processes at once, and what a user is told where they cannot run."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pattern_storage.storage import schema
from pattern_storage.storage.errors import SchemaMismatch, ServerUnavailable, StorageError
from tests.fix_process import wait_until
from tests.fix_storage import fetch


def test_up_down_and_up_again(empty_database_url: str) -> None:
    url = empty_database_url
    assert schema.current(url) is None
    schema.upgrade(url)
    assert schema.current(url) == schema.head()
    first = fetch(url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    schema.upgrade(url)  # nothing left to do
    schema.downgrade(url, "base")
    assert schema.current(url) is None
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    assert fetch(url, tables) == [("pattern_storage_version",)]
    schema.upgrade(url)
    assert schema.current(url) == schema.head()
    assert fetch(url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1") == first


def test_one_step_at_a_time(empty_database_url: str) -> None:
    schema.upgrade(empty_database_url, "+1")
    assert schema.current(empty_database_url) == "pattern_storage_0001"
    schema.downgrade(empty_database_url, "-1")
    assert schema.current(empty_database_url) is None


def test_the_head_is_the_last_migration() -> None:
    assert re.fullmatch(r"pattern_storage_\d{4}", schema.head())


def test_several_processes_at_once(empty_database_url: str) -> None:
    script = (
        "import sys; from pattern_storage.storage import schema;"
        " schema.upgrade(sys.argv[1]); print(schema.current(sys.argv[1]))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, empty_database_url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert outputs == [schema.head()] * 4


def test_the_second_waits_for_the_lock_of_the_first(empty_database_url: str) -> None:
    """Not luck: while somebody holds the migration lock, an upgrade waits, and goes on afterwards."""
    with psycopg.connect(empty_database_url) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [schema.MIGRATION_LOCK])
        upgrade = threads.submit(schema.upgrade, empty_database_url)
        asked = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'pattern-storage migrate' AND query LIKE '%try_advisory%'"
        )
        wait_until(lambda: fetch(empty_database_url, asked), "it has asked for the lock")
        assert not upgrade.done()
        assert schema.current(empty_database_url) is None
        holder.commit()
        upgrade.result(timeout=60)
    assert schema.current(empty_database_url) == schema.head()


def test_who_waits_for_the_lock_ends_each_transaction(empty_database_url: str) -> None:
    """The builder of an index waits for the end of each that it meets with a snapshot."""
    waiter = (
        "SELECT xact_start FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'pattern-storage migrate' AND query LIKE '%try_advisory%' AND xact_start IS NOT NULL"
    )
    with psycopg.connect(empty_database_url) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [schema.MIGRATION_LOCK])
        upgrade = threads.submit(schema.upgrade, empty_database_url)
        try:
            first = wait_until(lambda: fetch(empty_database_url, waiter), "it waits")
            wait_until(lambda: fetch(empty_database_url, waiter) not in ([], first), "it waits in another transaction")
        finally:
            holder.commit()
        upgrade.result(timeout=60)


def test_snapshots_that_last_for_a_transaction_by_default(empty_database_url: str) -> None:
    """The builder of an index would wait for the transaction that holds its own migration lock, for good."""
    name = psycopg.conninfo.conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'".encode())
        connection.execute(f"ALTER DATABASE \"{name}\" SET statement_timeout = '20s'".encode())
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()


def test_a_migration_that_fails_leaves_nothing(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE VIEW pattern_templates_tags AS SELECT 1")  # the name of a late index
        with pytest.raises(StorageError) as raised:
            schema.upgrade(empty_database_url)
        assert isinstance(raised.value, SchemaMismatch)
        assert 'relation "pattern_templates_tags" already exists' in str(raised.value)
        assert schema.current(empty_database_url) is None
        assert connection.execute("SELECT to_regclass('pattern_templates')").fetchone() == (None,)
        connection.execute("DROP VIEW pattern_templates_tags")
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()


@pytest.mark.parametrize("function", [schema.upgrade, schema.current])
def test_a_server_that_cannot_be_reached(function: Any) -> None:
    with pytest.raises(ServerUnavailable) as raised:
        function("postgresql://x:hunter2@127.0.0.1:1/x")
    assert str(raised.value).startswith("cannot connect to PostgreSQL: ")
    assert "Connection refused" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_url_that_is_none() -> None:
    with pytest.raises(StorageError):
        schema.current("this is not a url")


def test_a_database_of_a_later_version(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE pattern_storage_version SET version_num = '9999'")
    assert schema.current(database_url) == "9999"
    for change, revision in ((schema.upgrade, "head"), (schema.downgrade, "base")):
        with pytest.raises(SchemaMismatch, match="9999"):
            change(database_url, revision)


def test_a_revision_that_does_not_exist(database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="nonsense"):
        schema.upgrade(database_url, "nonsense")


def test_an_installation_without_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alembic.script.ScriptDirectory.get_current_head", lambda _: None)
    with pytest.raises(StorageError, match="install pattern-storage again"):
        schema.head()


def test_nobody_stays_connected(empty_database_url: str) -> None:
    schema.upgrade(empty_database_url)
    schema.current(empty_database_url)
    others = (
        "SELECT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'pattern-storage%'"
    )
    for _ in range(10_000):  # a backend takes a moment to leave the list
        if not (left := fetch(empty_database_url, others)):
            break
    assert left == []
