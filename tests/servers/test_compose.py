"""docker-compose.yml without a container engine: each command, health check and variable in it, as processes.

What a container has for itself is a folder or a port of the test here: its secrets (only those it is given), its
volumes, its ports. Nothing else in the file is changed.

Not started here: Grafana, which is in no package (tests/unit/test_deployment.py reads its files), and the entry point
of PostgreSQL's image. Prometheus is Debian's, older than the image.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml

from pattern_storage.storage import schema
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_compose import FLOWER, METRICS, PROMETHEUS, SERVICES, Composed
from tests.fix_imports import make_plan, queue_run, write_lines
from tests.fix_process import DEADLINE, ROOT, needs, wait_until
from tests.fix_storage import contract, make_pattern


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    """Both servers, and a schema that `migrate` has made."""
    if "DATABASE_URL" in os.environ:
        pytest.skip("DATABASE_URL is set: this test needs a server of its own")
    folder = Path(tempfile.mkdtemp(prefix="pattern-storage-compose-"))
    folder.chmod(0o711)
    system = Composed(folder)
    try:
        system.start("redis").wait_for("Ready to accept connections")
        assert f"empty -> {schema.head()}" in system.run("migrate", system.command("migrate"))
        yield system
    finally:
        system.close()
        shutil.rmtree(folder)


@pytest.fixture
def service_url(composed: Composed) -> str:
    return composed.secret("worker", "database_url")


def test_the_file_is_read_by_compose() -> None:
    program = needs("docker-compose")
    arguments = [program, "--profile", "observability", "config"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


def test_postgresql_is_checked_by_the_services_role(composed: Composed) -> None:
    assert composed.check("postgres") == 0
    with psycopg.connect(composed.postgres.url, dbname="postgres", autocommit=True) as connection:
        connection.execute("ALTER ROLE pattern_storage_service NOLOGIN")
        assert composed.check("postgres") == 1
        connection.execute("ALTER ROLE pattern_storage_service LOGIN")


def test_redis_is_checked_by_a_write(composed: Composed) -> None:
    needs("redis-cli")
    assert composed.check("redis") == 0
    with redis.Redis.from_url(composed.secret("worker", "redis_url"), decode_responses=True) as server:
        settings = dict(server.config_get())
        assert (settings["appendonly"], settings["maxmemory-policy"]) == ("yes", "noeviction")
        server.config_set("maxmemory", 1)
        assert composed.check("redis") == 1
        server.config_set("maxmemory", settings["maxmemory"])


def test_the_password_of_redis_is_rotated_as_the_runbook_says(composed: Composed) -> None:
    """In its file, in place: neither Redis nor its health check is started anew."""
    needs("redis-cli")
    mounted = composed.secrets("redis") / "redis_password"
    old = mounted.read_text()
    with redis.Redis.from_url(composed.secret("worker", "redis_url")) as server:

        def move(fewer: str, more: str) -> None:
            server.execute_command("ACL", "SETUSER", "default", f">{more.strip()}")
            mounted.write_text(more)
            assert composed.check("redis") == 0
            server.execute_command("ACL", "SETUSER", "default", f"<{fewer.strip()}")
            assert composed.check("redis") == 0

        move(old, "another-password\n")
        mounted.write_text(old)
        assert composed.check("redis") == 1
        move("another-password\n", old)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE pattern_templates ADD COLUMN more text",
        "CREATE TABLE more (number integer)",
        "DROP TABLE outbox",
        "TRUNCATE job_ledger",
        "CREATE INDEX more ON pattern_templates (source)",
        "ALTER FUNCTION enqueue_pattern_job COST 1",
        "CREATE SCHEMA more",
        "DROP INDEX dead_letters_died_at",
        "UPDATE pattern_storage_version SET version_num = 'none'",
        "CREATE ROLE more",
        "ALTER SYSTEM SET fsync = off",
        "COPY pattern_templates TO PROGRAM 'true'",
    ],
)
def test_the_services_role_cannot_change_the_schema(service_url: str, statement: str) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(service_url, autocommit=True) as connection, refused:
        connection.execute(statement.encode())


def test_each_role_has_what_it_needs_and_no_more(composed: Composed, service_url: str) -> None:
    with psycopg.connect(service_url) as connection:
        connection.execute("CREATE TEMPORARY TABLE staging (number integer)")
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
            " AND relname <> 'pattern_storage_version'"
            " AND NOT has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE')"
        ).fetchall()
        assert tables == [], "grant_rights in storage/sql/roles.sql has to name them"
        roles = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pattern_storage_%' AND (rolsuper OR rolcreaterole)"
        assert connection.execute(roles).fetchall() == []
    # Nobody but migrate is given the owner's password, and nobody else the superuser's.
    given = {name: {str(one) for one in service.get("secrets", [])} for name, service in SERVICES.items()}
    assert [name for name in given if any("owner" in one for one in given[name])] == ["postgres", "migrate"]
    assert [name for name in given if "postgres_password" in given[name]] == ["postgres"]


def test_jobs_with_the_services_role(composed: Composed, service_url: str) -> None:
    """Worker, relay and beat do their work, say that they can, and end when they are told to."""
    worker = composed.start("worker")
    for name in ("relay", "beat"):
        composed.start(name)
    with PatternStorageClient(database_url=service_url, redis_url=composed.secret("worker", "redis_url")) as client:
        assert client.insert(make_pattern()).result(DEADLINE).success
        with psycopg.connect(service_url) as connection:
            written = client.submit_in(connection, contract("insert", data=make_pattern()))
        assert written.result(DEADLINE).success
    composed.becomes_healthy("worker", "relay", "beat")
    assert composed.running["relay"].stop() == 0
    assert worker.stop(float(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))) == 0
    # Not warm, which would wait for running jobs without end.
    assert "Cold shutdown" in worker.text()
    assert composed.check("worker") == 1


def test_imports(composed: Composed, service_url: str, tmp_path: Path) -> None:
    """A run with one bad row that is allowed: its reject file is in the service's volume, and so is every copy."""
    composed.start("imports")
    composed.becomes_healthy("imports")
    source = write_lines(tmp_path / "rows.jsonl", [make_pattern(), {"pattern_name": "nothing else"}, make_pattern()])
    redis_url = composed.secret("imports", "redis_url")
    run_id = queue_run(service_url, redis_url, make_plan(source, max_bad_rows=1))
    with PatternStorageClient(database_url=service_url, redis_url=redis_url) as client:
        result = client.get(run_id).result(DEADLINE)
    assert result.success, result.error
    assert (result.data["rows_inserted"], result.data["rows_rejected"]) == (2, 1)
    kept = composed.folder / "volume-imports/imports/nightly" / f"{run_id}.rejected.jsonl"
    assert json.loads(kept.read_text())["line"] == 2


def test_metrics(composed: Composed) -> None:
    composed.start("imports")
    url = f"http://127.0.0.1:{composed.ports['imports', METRICS]}/metrics"

    def read() -> str:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    assert "pattern_storage_" in wait_until(read, "metrics are served")


def test_postgresql_is_started_as_its_image_does() -> None:
    """There is no command to try: what it is told is in its environment and in the script, both of which ran above."""
    assert "command" not in SERVICES["postgres"]


def test_prometheus(composed: Composed) -> None:
    """It takes the flags of the file, finds its rules beside its configuration, and is known to be ready."""
    needs("wget")
    needs("prometheus")
    address = f"127.0.0.1:{composed.ports['prometheus', PROMETHEUS]}"
    assert composed.check("prometheus") != 0
    running = composed.start("prometheus", f"--web.listen-address={address}")
    composed.becomes_healthy("prometheus")

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]

    assert ask("status/flags")["storage.tsdb.retention.time"] == "30d"
    assert [group["name"] for group in ask("rules")["groups"]] == ["pattern-storage"]
    assert list((composed.folder / "volume-prometheus").iterdir()) != []
    assert running.stop() == 0


def test_flower(composed: Composed) -> None:
    composed.start("flower")
    composed.becomes_healthy("flower")
    url = f"http://127.0.0.1:{composed.ports['flower', FLOWER]}/workers"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, timeout=5)
    login = base64.b64encode(f"admin:{composed.secret('flower', 'flower_password')}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200
