"""docker-compose.yml without a container engine: each command, health check and variable in it, as processes.

What a container has for itself is a folder or a port of the test here: its secrets (only those it is given), its
volumes, its ports. Nothing else in the file is changed.

Not started here: Grafana, which is in no package (tests/unit/test_deployment.py reads its files), and the entry point
of PostgreSQL's image. Prometheus is Debian's, older than the image.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import yaml

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres, find_valkey
from pattern_storage.storage import schema
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_imports import make_plan, queue_run, write_lines
from tests.fix_process import DEADLINE, ROOT, ProcessGroup, clean_environment, free_port, needs, wait_until
from tests.fix_storage import contract, make_pattern

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FLOWER, METRICS, PROMETHEUS = "5555", "9540", "9090"


class Composed:
    """The services of the file on one PostgreSQL and one Redis server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, ProcessGroup] = {}
        subprocess.run([ROOT / "deploy/make-secrets", folder / "secrets"], check=True, capture_output=True)
        self.postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        self.postgres.start()
        server = urlsplit(self.postgres.url)
        self.hosts = {"postgres:5432": f"127.0.0.1:{server.port}", "redis:6379": f"127.0.0.1:{free_port()}"}
        self.ports = {(name, port): str(free_port()) for name in SERVICES for port in (FLOWER, METRICS, PROMETHEUS)}
        # Where the images have their programs: ours, and the servers'.
        us = Account(os.geteuid(), os.getegid(), switched=False)
        self.path = [Path(sys.executable).parent, find_postgres(folder, us).postgres.parent, folder / "bin"]
        self._shim("redis-server", f'{find_valkey(folder, us)} "$@" --port {self.port("redis:6379")} --dir {folder}')
        if cli := shutil.which("redis-cli"):
            self._shim("redis-cli", f'{cli} -p {self.port("redis:6379")} "$@"')
        self._create_roles(server.username, server.password)

    def port(self, host: str) -> str:
        return self.hosts[host].rpartition(":")[2]

    def _shim(self, name: str, command: str) -> None:
        (self.folder / "bin").mkdir(exist_ok=True)
        script = self.folder / "bin" / name
        script.write_text(f"#!/bin/sh\nexec {command}\n")
        script.chmod(0o755)

    def _create_roles(self, user: str | None, password: str | None) -> None:
        with psycopg.connect(self.postgres.url, dbname="postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE pattern_storage")  # the embedded server's own, of the same name
        script = next(mount for mount in SERVICES["postgres"]["volumes"] if "initdb" in mount).split(":")[0]
        variables = {"POSTGRES_USER": user, "PGPASSWORD": password, "SECRETS_DIR": str(self.secrets("postgres"))}
        self.run("postgres", [str(ROOT / script)], **variables)

    def secrets(self, name: str) -> Path:
        """The secrets that this service is given, under the names it knows them by."""
        folder = self.folder / f"secrets-{name}"
        if folder.exists():
            return folder
        folder.mkdir()
        for given in SERVICES[name].get("secrets", []):
            given = {"source": given, "target": given} if isinstance(given, str) else given
            text = (self.folder / "secrets" / given["source"]).read_text()
            for host, here in self.hosts.items():
                text = text.replace(host, here)
            (folder / given["target"]).write_text(text)
        return folder

    def secret(self, name: str, file: str) -> str:
        return (self.secrets(name) / file).read_text().strip()

    def here(self, name: str, text: str) -> str:
        """What a text of the file means where nothing is a container."""
        volume = self.folder / f"volume-{name}"
        volume.mkdir(exist_ok=True)
        places = {
            "$$": "$", "/run/secrets": str(self.secrets(name)), "/var/lib/pattern-storage": str(volume),
            "/etc/pattern-storage": str(ROOT / "deploy"),
            "/etc/prometheus": str(ROOT / "deploy/prometheus"), "=/prometheus": f"={volume}",
        } | {port: self.ports[name, port] for port in (FLOWER, METRICS, PROMETHEUS)}  # fmt: skip
        # At once: what stands in the place of one may look like another.
        return re.sub("|".join(map(re.escape, places)), lambda there: places[there[0]], text)

    def environment(self, name: str, **more: Any) -> dict[str, str]:
        given = {key: self.here(name, str(value)) for key, value in SERVICES[name].get("environment", {}).items()}
        path = os.pathsep.join([*map(str, self.path), os.environ["PATH"]])
        server = {"PGHOST": "127.0.0.1", "PGPORT": self.port("postgres:5432")}
        return clean_environment(**given, **server, PATH=path, HOSTNAME=socket.gethostname()) | more

    def run(self, name: str, command: list[str], **more: Any) -> str:
        """Run a command as the service and return what it printed; fails unless it succeeds."""
        done = subprocess.run(
            command, env=self.environment(name, **more), cwd=self.folder, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, name: str) -> list[str]:
        # The entry point of this image is its program.
        entry = ["prometheus"] if name == "prometheus" else []
        return entry + [self.here(name, part) for part in SERVICES[name]["command"]]

    def start(self, name: str, *more: str) -> ProcessGroup:
        """Start a service as the file says, unless it runs; `more` are arguments that give it a port of its own."""
        if name not in self.running:
            program, *arguments = [*self.command(name), *more]
            found = shutil.which(program, path=self.environment(name)["PATH"])
            assert found, program
            log = self.folder / f"{name}.log"
            self.running[name] = ProcessGroup(name, arguments, self.environment(name), log, program=[found])
        return self.running[name]

    def check(self, name: str) -> int:
        """Run a service's health check and return its exit code."""
        kind, *test = [self.here(name, part) for part in SERVICES[name]["healthcheck"]["test"]]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        environment = self.environment(name)
        return subprocess.run(command, env=environment, capture_output=True, timeout=DEADLINE, check=False).returncode

    def becomes_healthy(self, *names: str) -> None:
        def healthy(name: str) -> bool:
            assert self.running[name].status == "running", f"{name} ended:\n{self.running[name].text()}"
            return self.check(name) == 0

        for name in names:
            wait_until(partial(healthy, name), f"{name} is healthy")

    def close(self) -> None:
        for group in self.running.values():
            group.stop(1)
            group.discard()
        self.postgres.stop()


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
