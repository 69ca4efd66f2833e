"""`doctor` finds what is wrong with PostgreSQL by doing what a worker does; `migrate` says why it fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import NodePatternStorageEffect, roles, schema
from pattern_storage.storage.errors import RightMissing, SchemaMismatch
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.cli.doctor_postgresql import check_postgresql
from tests.fix_cli import Cli
from tests.fix_servers import drop_database, on_database
from tests.fix_storage import make_pattern, succeed


def wrong(url: str) -> dict[str, tuple[str, str]]:
    """What doctor finds and advises, by subject, of all that it finds wrong."""
    findings = check_postgresql(load_settings(database_url=url))
    return {finding.subject: (finding.found, finding.advice) for finding in findings if not finding.ok}


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def with_path(url: str, path: str) -> str:
    return f"{url}?options={quote(f'-c search_path={path}')}"


@contextmanager
def role(url: str, *, granted: bool) -> Iterator[str]:
    """A role that can log in, with what services need or with nothing; yields its URL."""
    name = f"role_{uuid4().hex[:8]}"
    execute(url, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        if granted:
            roles.grant(url, name)
        parts = urlsplit(url)
        yield parts._replace(netloc=f"{name}:secret@{parts.hostname}:{parts.port}").geturl()
    finally:
        execute(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_nothing_is_wrong_and_nothing_stays(database_url: str) -> None:
    with role(database_url, granted=True) as url:
        assert wrong(url) == {}
    tables = ("pattern_templates", "job_ledger", "job_attempts", "dead_letters", "outbox", "import_runs")
    with psycopg.connect(database_url) as connection:
        for table in tables:
            query = SQL("SELECT count(*) FROM {}").format(Identifier(table))
            assert connection.execute(query).fetchone() == (0,), table


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_an_encoding_that_cannot_hold_every_text(postgres_url: str, cli: Cli, encoding: str) -> None:
    name = f"test_{uuid4().hex[:12]}"
    execute(postgres_url, f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    url = on_database(postgres_url, name)
    try:
        ((subject, (found, advice)),) = wrong(url).items()
        assert (subject, found) == ("PostgreSQL", f"encoding {encoding}")
        assert "ENCODING 'UTF8'" in advice
        said = cli("migrate", DATABASE_URL=url)
        assert (said.code, "ENCODING 'UTF8'" in said.error) == (2, True)
    finally:
        drop_database(postgres_url, name)


def test_a_search_path_that_leads_nowhere(database_url: str) -> None:
    ((subject, (found, _)),) = wrong(with_path(database_url, "nowhere")).items()
    assert subject == "migrations"
    assert "none of these schemas exists" in found


def test_a_search_path_that_leads_elsewhere(database_url: str) -> None:
    execute(database_url, "CREATE SCHEMA elsewhere")
    assert wrong(with_path(database_url, "elsewhere")) == {
        "migrations": (f"none, needed {schema.head()}, in the schema elsewhere", "run 'pattern-storage migrate'")
    }


def test_a_version_table_of_another_application(empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE TABLE alembic_version AS SELECT '0003' AS version_num")
    assert wrong(empty_database_url) == {
        "migrations": (f"none, needed {schema.head()}", "run 'pattern-storage migrate'")
    }


def test_a_table_that_is_missing(database_url: str) -> None:
    execute(database_url, "DROP TABLE dead_letters")
    ((subject, (found, _)),) = wrong(database_url).items()
    assert subject == "migrations"
    assert found == f"{schema.head()}, but no table dead_letters in the schema public"


def test_a_column_that_is_missing(database_url: str) -> None:
    execute(database_url, "ALTER TABLE outbox DROP COLUMN published")
    ((subject, (found, _)),) = wrong(database_url).items()
    assert subject == "jobs"
    assert "published" in found


def test_a_role_without_rights(database_url: str) -> None:
    with role(database_url, granted=False) as url:
        ((subject, (found, advice)),) = wrong(url).items()
        assert subject == "migrations"
        assert "permission denied for table pattern_storage_version" in found
        assert advice == f"as the owner of the tables run 'pattern-storage migrate --grant-to {urlsplit(url).username}'"


@pytest.mark.parametrize(
    ("statement", "denied"),
    [
        ("REVOKE INSERT ON outbox FROM {role}", "table outbox"),
        ("REVOKE UPDATE ON import_schedules FROM {role}", "table import_schedules"),
        ("REVOKE DELETE ON pattern_templates FROM {role}", "table pattern_templates"),
        ("REVOKE EXECUTE ON FUNCTION enqueue_pattern_job FROM PUBLIC, {role}", "function enqueue_pattern_job"),
    ],
)
def test_a_role_that_lacks_one_right(database_url: str, statement: str, denied: str) -> None:
    with role(database_url, granted=True) as url:
        name = urlsplit(url).username
        execute(database_url, statement.format(role=name))
        ((subject, (found, advice)),) = wrong(url).items()
        assert subject == "jobs"
        assert f"permission denied for {denied}" in found
        assert advice == f"as the owner of the tables run 'pattern-storage migrate --grant-to {name}'"


def test_a_role_that_may_only_read(database_url: str) -> None:
    url = f"{database_url}?options={quote('-c default_transaction_read_only=on')}"
    ((subject, (found, advice)),) = wrong(url).items()
    assert subject == "jobs"
    assert found.startswith("the database is read-only")
    assert "primary" in advice


def test_a_search_path_that_only_migrate_was_given(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(empty_database_url, "CREATE SCHEMA myapp")
    with monkeypatch.context() as patch:
        patch.setenv("PGOPTIONS", "-c search_path=myapp,public")
        schema.upgrade(empty_database_url)
        assert wrong(empty_database_url) == {}
    assert wrong(empty_database_url) == {
        "migrations": (f"none, needed {schema.head()}", "run 'pattern-storage migrate'")
    }


def test_transactions_that_end_too_early(database_url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url) as connection:
        if connection.info.server_version < 170_000:
            pytest.skip("PostgreSQL before 17 has no transaction_timeout")
    # These are our own sessions' affair, and end nothing.
    for harmless in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        execute(database_url, f"ALTER DATABASE {name} SET {harmless} = '30s'")
    assert wrong(database_url) == {}
    execute(database_url, f"ALTER DATABASE {name} SET transaction_timeout = '30s'")
    ((subject, (found, advice)),) = wrong(database_url).items()
    assert (subject, found) == ("time-outs", "transaction_timeout is 30 s, and a job may take 180 s")
    assert "ALTER ROLE" in advice


def test_migrate_without_rights(empty_database_url: str, cli: Cli) -> None:
    execute(empty_database_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC", "CREATE EXTENSION pg_trgm")
    with role(empty_database_url, granted=False) as url:
        with pytest.raises(RightMissing, match="this role may not change the schema: permission denied for schema"):
            schema.upgrade(url)
        said = cli("migrate", DATABASE_URL=url)
        assert (said.code, "as the owner of the tables" in said.error) == (1, True)
        assert "run 'pattern-storage migrate'" not in said.error


def test_migrate_where_pg_trgm_may_not_be_installed(empty_database_url: str) -> None:
    with role(empty_database_url, granted=False) as url:
        execute(empty_database_url, f"CREATE SCHEMA mine AUTHORIZATION {urlsplit(url).username}")
        with pytest.raises(RightMissing, match=r"extension .*CREATE privilege on current database"):
            schema.upgrade(with_path(url, "mine"))


async def test_a_second_installation_in_another_schema(empty_database_url: str) -> None:
    """pg_trgm is in the schema of the first, which the second does not look into."""
    execute(empty_database_url, "CREATE SCHEMA one", "CREATE SCHEMA two")
    for name in ("one", "two"):
        url = with_path(empty_database_url, name)
        schema.upgrade(url)
        assert wrong(url) == {}
        async with create_pool(url) as pool:
            await succeed(NodePatternStorageEffect(pool), "insert", data=make_pattern(pattern_name="the same"))
            node = NodePatternStorageEffect(pool)
            assert (await succeed(node, "query", query_params={"name_contains": "SAME"}))["count"] == 1
    schema.downgrade(with_path(empty_database_url, "one"), "base")
    assert wrong(with_path(empty_database_url, "two")) == {}


def test_a_migration_that_fails_does_not_advise_itself(empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE TABLE pattern_templates (id integer)")
    with pytest.raises(SchemaMismatch, match=r"a migration failed, and left nothing: .* already exists"):
        schema.upgrade(empty_database_url)
