"""The schema: the 22 columns of the facts, and migrations that several processes may start at once."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pattern_storage.storage import schema
from pattern_storage.storage.errors import SchemaMismatch, ServerUnavailable, StorageError
from pattern_storage.storage.pattern import COLUMNS
from tests.fix_process import wait_until

TEXT, FLOAT, TIME = "text", "double precision", "timestamp with time zone"

#: name, type, nullable, default
FACTS = [
    ("id", "uuid", "NO", "time_ordered_id()"),
    ("pattern_name", TEXT, "NO", None),
    ("pattern_type", TEXT, "NO", None),
    ("language", TEXT, "NO", None),
    ("category", TEXT, "YES", None),
    ("template_code", TEXT, "NO", None),
    ("description", TEXT, "YES", None),
    ("example_usage", TEXT, "YES", None),
    ("source", TEXT, "YES", None),
    ("confidence_score", FLOAT, "NO", "0.5"),
    ("usage_count", "integer", "NO", "0"),
    ("success_rate", FLOAT, "NO", "0.5"),
    ("complexity_score", "integer", "YES", None),
    ("maintainability_score", FLOAT, "YES", None),
    ("performance_score", FLOAT, "YES", None),
    ("parent_pattern_id", "uuid", "YES", None),
    ("is_deprecated", "boolean", "NO", "false"),
    ("created_by", TEXT, "NO", "'system'::text"),
    ("tags", "ARRAY", "NO", "'{}'::text[]"),
    ("context", "jsonb", "NO", "'{}'::jsonb"),
    ("created_at", TIME, "NO", "now()"),
    ("updated_at", TIME, "NO", "now()"),
]


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_the_columns_are_those_of_the_facts(database_url: str) -> None:
    found = ask(
        database_url,
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_name = 'pattern_templates' ORDER BY ordinal_position",
    )
    assert found == FACTS
    assert len(found) == 22
    assert tuple(name for name, *_ in FACTS) == COLUMNS


def test_ids_made_by_the_server_ascend_in_time(database_url: str) -> None:
    """Of version 7, so that new rows are neighbours in every index that ends with the id."""
    statement = "SELECT time_ordered_id(), extract(epoch FROM clock_timestamp()) * 1000 FROM generate_series(1, 1000)"
    found = ask(database_url, statement)
    assert len({made for made, _ in found}) == 1000
    for made, milliseconds in found:
        assert made.version == 7
        assert abs((made.int >> 80) - milliseconds) < 1000


def test_keys_and_references(database_url: str) -> None:
    found = ask(
        database_url,
        "SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'pattern_templates'::regclass AND contype IN ('p', 'u', 'f') ORDER BY contype",
    )
    assert found == [
        ("f", "FOREIGN KEY (parent_pattern_id) REFERENCES pattern_templates(id)"),
        ("p", "PRIMARY KEY (id)"),
        ("u", "UNIQUE (pattern_name, pattern_type, language)"),
    ]


#: The revision before indexes are built online.
BEFORE_ONLINE = "pattern_storage_0003"

GOOD = {"pattern_name": "'n'", "pattern_type": "'t'", "language": "'l'", "template_code": "'c'"}


RULES: list[tuple[str, list[str], list[str]]] = [
    ("pattern_name", ["'x'", "repeat('ä', 255)"], ["''", "repeat('x', 256)"]),
    ("pattern_type", ["'x'", "repeat('x', 100)"], ["''", "repeat('x', 101)"]),
    ("language", ["'x'", "repeat('x', 50)"], ["''", "repeat('x', 51)"]),
    ("confidence_score", ["0", "1"], ["-0.001", "1.001", "'NaN'", "'inf'"]),
    ("success_rate", ["0", "1"], ["-0.001", "1.001", "'NaN'"]),
    ("maintainability_score", ["0", "1", "NULL"], ["-0.001", "1.001", "'NaN'"]),
    ("performance_score", ["0", "1", "NULL"], ["-0.001", "1.001", "'NaN'"]),
    ("usage_count", ["0", "2147483647"], ["-1"]),
    ("complexity_score", ["1", "10", "NULL"], ["0", "11"]),
    ("context", ["'{}'"], ["'[]'", "'1'", "'null'"]),
]


def test_the_database_keeps_the_rules_itself(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for column, good, bad in RULES:
            for value in [*good, *bad]:
                values = GOOD | {column: value}
                statement = f"INSERT INTO pattern_templates ({', '.join(values)}) VALUES ({', '.join(values.values())})"
                with connection.transaction(force_rollback=True):
                    if value in good:
                        connection.execute(statement.encode())
                        continue
                    with pytest.raises(psycopg.errors.CheckViolation):
                        connection.execute(statement.encode())


def test_up_down_and_up_again(empty_database_url: str) -> None:
    url = empty_database_url
    assert schema.current(url) is None
    schema.upgrade(url)
    assert schema.current(url) == schema.head()
    first = ask(url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    schema.upgrade(url)  # nothing left to do
    schema.downgrade(url, "base")
    assert schema.current(url) is None
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    assert ask(url, tables) == [("pattern_storage_version",)]
    schema.upgrade(url)
    assert schema.current(url) == schema.head()
    assert ask(url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1") == first


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
        wait_until(lambda: ask(empty_database_url, asked), "it has asked for the lock")
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
            first = wait_until(lambda: ask(empty_database_url, waiter), "it waits")
            wait_until(lambda: ask(empty_database_url, waiter) not in ([], first), "it waits in another transaction")
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


# --- indexes built online ---

NEW = ["pattern_templates_category_created_at", "pattern_templates_created_by_created_at"]
OLD = ["pattern_templates_category", "pattern_templates_created_by"]
INDEXES = "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relname = ANY (%s)"


@pytest.fixture
def before_online(empty_database_url: str) -> str:
    """A database as it was before the first index that is built online, with a pattern in it."""
    schema.upgrade(empty_database_url, BEFORE_ONLINE)
    with psycopg.connect(empty_database_url) as connection:
        columns, values = ", ".join(GOOD), ", ".join(GOOD.values())
        connection.execute(f"INSERT INTO pattern_templates ({columns}) VALUES ({values})".encode())
    return empty_database_url


def indexes(url: str) -> dict[str, bool]:
    """Return whether each of these indexes is valid."""
    with psycopg.connect(url, autocommit=True) as connection:
        return dict(connection.execute(INDEXES, [NEW + OLD]).fetchall())


def test_old_processes_write_while_an_index_is_built(before_online: str) -> None:
    """The build waits for a transaction that is older than it; others read and write meanwhile."""
    with psycopg.connect(before_online) as old, ThreadPoolExecutor(1) as threads:
        old.execute("UPDATE pattern_templates SET usage_count = 1")
        upgrade = threads.submit(schema.upgrade, before_online)
        wait_until(lambda: indexes(before_online).get(NEW[0]) is False, "the index is being built")
        with psycopg.connect(before_online, autocommit=True) as other:
            other.execute("SET lock_timeout = '5s'")
            other.execute("UPDATE pattern_templates SET is_deprecated = true WHERE pattern_name = 'none'")
            other.execute(
                "INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code)"
                " VALUES ('n2', 't', 'l', 'c')"
            )
        assert not upgrade.done()
        old.commit()
        upgrade.result(timeout=60)
    assert indexes(before_online) == dict.fromkeys(NEW, True)
    assert ask(before_online, "SELECT count(*) FROM pattern_templates") == [(2,)]


def test_a_migration_killed_half_way_is_finished_by_the_next(before_online: str) -> None:
    script = "import sys; from pattern_storage.storage import schema; schema.upgrade(sys.argv[1])"
    with psycopg.connect(before_online) as old:
        old.execute("UPDATE pattern_templates SET usage_count = 1")
        killed = subprocess.Popen([sys.executable, "-c", script, before_online])
        wait_until(lambda: indexes(before_online).get(NEW[0]) is False, "the index is being built")
        killed.kill()
        killed.wait()
        # What it had begun on the server ends as well, and leaves an index that nobody may use.
        with psycopg.connect(before_online, autocommit=True) as operator:
            operator.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'pattern-storage migrate'"
            )
    assert indexes(before_online) == {NEW[0]: False} | dict.fromkeys(OLD, True)
    assert schema.current(before_online) == BEFORE_ONLINE
    schema.upgrade(before_online)
    assert indexes(before_online) == dict.fromkeys(NEW, True)
    assert schema.current(before_online) == schema.head()


def test_a_builder_whose_client_was_killed_is_waited_for(before_online: str) -> None:
    """Its index is taken as it is, not dropped and built anew."""
    script = "import sys; from pattern_storage.storage import schema; schema.upgrade(sys.argv[1])"
    with psycopg.connect(before_online) as old, ThreadPoolExecutor(1) as threads:
        old.execute("UPDATE pattern_templates SET usage_count = 1")
        killed = subprocess.Popen([sys.executable, "-c", script, before_online])
        wait_until(lambda: indexes(before_online).get(NEW[0]) is False, "the index is being built")
        killed.kill()
        killed.wait()
        which = f"SELECT '{NEW[0]}'::regclass::oid"
        built = ask(before_online, which)
        upgrade = threads.submit(schema.upgrade, before_online)
        looks = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND query LIKE '%pg_stat_progress_create_index%' AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: ask(before_online, looks), "the next one sees the builder")
        old.commit()
        upgrade.result(timeout=60)
    assert ask(before_online, which) == built
    assert indexes(before_online) == dict.fromkeys(NEW, True)


def test_an_index_of_another_installation_is_left_alone(empty_database_url: str) -> None:
    """The same names in a schema that the search path has as well."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ours")
        connection.execute("CREATE SCHEMA theirs")
        connection.execute("CREATE TABLE theirs.pattern_templates (category text)")
        connection.execute("CREATE INDEX pattern_templates_category ON theirs.pattern_templates USING hash (category)")
    schema.upgrade(empty_database_url + "?options=-csearch_path%3Dours%2Cpublic%2Ctheirs")
    found = "SELECT schemaname FROM pg_indexes WHERE indexname = 'pattern_templates_category'"
    assert ask(empty_database_url, found) == [("theirs",)]


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
        if not (left := ask(empty_database_url, others)):
            break
    assert left == []


# --- the version table ---


def as_before_it_had_a_version_table_of_its_own(url: str, revision: str) -> None:
    """Make it the installation of an older release: its revision in `alembic_version`."""
    schema.upgrade(url, f"pattern_storage_{revision}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE pattern_storage_version")
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES (%s)", [revision])


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_an_older_installation_is_carried_over(empty_database_url: str, revision: str) -> None:
    as_before_it_had_a_version_table_of_its_own(empty_database_url, revision)
    assert schema.current(empty_database_url) == f"pattern_storage_{revision}"
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()
    assert ask(empty_database_url, "SELECT * FROM alembic_version") == []


def test_an_application_with_its_own_alembic(empty_database_url: str) -> None:
    """Whoever comes second, and whatever its revision is called: neither touches what the other has."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0003')")
    assert schema.current(empty_database_url) is None
    schema.upgrade(empty_database_url)
    assert ask(empty_database_url, "SELECT count(*) FROM pattern_templates") == [(0,)]
    assert ask(empty_database_url, "SELECT * FROM alembic_version") == [("0003",)]
    schema.downgrade(empty_database_url, "base")
    assert ask(empty_database_url, "SELECT * FROM alembic_version") == [("0003",)]


def test_an_older_installation_whose_alembic_version_an_application_has_taken(empty_database_url: str) -> None:
    as_before_it_had_a_version_table_of_its_own(empty_database_url, "0003")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ae1027a6acf'")
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()
    assert ask(empty_database_url, "SELECT * FROM alembic_version") == [("ae1027a6acf",)]


def test_a_table_of_another_application_is_not_taken_for_ours(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE pattern_templates (id integer)")
    assert schema.current(empty_database_url) is None
    with pytest.raises(SchemaMismatch, match='relation "pattern_templates" already exists'):
        schema.upgrade(empty_database_url)


def test_a_table_that_is_gone(database_url: str) -> None:
    """The version table alone says nothing."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE outbox")
    with pytest.raises(SchemaMismatch, match=r"says pattern_storage_\d+, but outbox is missing"):
        schema.upgrade(database_url)
