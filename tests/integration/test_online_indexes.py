"""Indexes that migrations build online: writes go on, and a build that was killed is finished by the next."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pattern_storage.storage import schema
from tests.fix_process import wait_until
from tests.fix_storage import fetch

#: The revision before indexes are built online.
BEFORE_ONLINE = "pattern_storage_0003"


GOOD = {"pattern_name": "'n'", "pattern_type": "'t'", "language": "'l'", "template_code": "'c'"}


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
    assert fetch(before_online, "SELECT count(*) FROM pattern_templates") == [(2,)]


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
        built = fetch(before_online, which)
        upgrade = threads.submit(schema.upgrade, before_online)
        looks = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND query LIKE '%pg_stat_progress_create_index%' AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: fetch(before_online, looks), "the next one sees the builder")
        old.commit()
        upgrade.result(timeout=60)
    assert fetch(before_online, which) == built
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
    assert fetch(empty_database_url, found) == [("theirs",)]
