"""The version table: of an older installation, beside an application with its own alembic, and gone."""

import psycopg
import pytest

from pattern_storage.storage import schema
from pattern_storage.storage.errors import SchemaMismatch
from tests.fix_storage import fetch


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
    assert fetch(empty_database_url, "SELECT * FROM alembic_version") == []


def test_an_application_with_its_own_alembic(empty_database_url: str) -> None:
    """Whoever comes second, and whatever its revision is called: neither touches what the other has."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0003')")
    assert schema.current(empty_database_url) is None
    schema.upgrade(empty_database_url)
    assert fetch(empty_database_url, "SELECT count(*) FROM pattern_templates") == [(0,)]
    assert fetch(empty_database_url, "SELECT * FROM alembic_version") == [("0003",)]
    schema.downgrade(empty_database_url, "base")
    assert fetch(empty_database_url, "SELECT * FROM alembic_version") == [("0003",)]


def test_an_older_installation_whose_alembic_version_an_application_has_taken(empty_database_url: str) -> None:
    as_before_it_had_a_version_table_of_its_own(empty_database_url, "0003")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ae1027a6acf'")
    schema.upgrade(empty_database_url)
    assert schema.current(empty_database_url) == schema.head()
    assert fetch(empty_database_url, "SELECT * FROM alembic_version") == [("ae1027a6acf",)]


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
