"""The whole system with a Redis user for each service, which has the rights that the code lists and no others."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis

from pattern_storage.config.redis_rights import RIGHTS, acl_rules
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage import ModelResult, dead_letters
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.database import Database, run_sync
from tests import fix_cli
from tests.fix_celery import StorageWorker, launch_worker, locked_patterns
from tests.fix_cli import Cli
from tests.fix_everything import PATIENT, do_everything
from tests.fix_flower import Flower
from tests.fix_imports import patterns, write_lines
from tests.fix_process import DEADLINE, ProcessGroup, clean_environment, wait_until
from tests.fix_storage import contract, make_pattern

#: Connections to Redis of each service at most, as docs/redis.md has them; the worker with two processes.
CONNECTIONS = {"worker": 14 + 2 * 3, "beat": 2, "relay": 1, "flower": 11}
IMPORT = '[[import]]\nname = "{}"\nsource = "rows.jsonl"\nevery = "{}"\non_conflict = "skip"\n\n'
PREFIX = "team-a:"


class Users:
    """A server with a user for each service."""

    def __init__(self, server: EmbeddedValkey) -> None:
        self.server = server
        admin: Any = redis.Redis.from_url(server.url)
        self.admin = admin
        for service in RIGHTS:
            rules = acl_rules(service, PREFIX)
            admin.execute_command("ACL", "SETUSER", service, "reset", "on", f">{service}-secret", *rules)

    def url(self, service: str) -> str:
        parts = urlsplit(self.server.url)
        return parts._replace(netloc=f"{service}:{service}-secret@{parts.hostname}:{parts.port}").geturl()

    def refused(self) -> list[tuple[str, str, str]]:
        """What was refused: user, reason and object."""
        return [(line["username"], line["reason"], line["object"]) for line in self.admin.acl_log()]

    def connections(self, service: str) -> int:
        """How many connections a service has now, without those of commands that this process has called as its user.

        kombu keeps the connections over which a command has asked workers until its process ends.
        """
        ours = {f"{one.laddr.ip}:{one.laddr.port}" for one in psutil.Process().net_connections("tcp") if one.laddr}
        return sum(one["user"] == service and one["addr"] not in ours for one in self.admin.client_list())


@pytest.fixture
def users(lone_valkey: EmbeddedValkey) -> Iterator[Users]:
    opened = Users(lone_valkey)
    yield opened
    opened.admin.close()


class System:
    """All services, each as its user."""

    def __init__(self, users: Users, database_url: str, folder: Path, stack: ExitStack) -> None:
        self.users, self.database_url, self.folder = users, database_url, folder
        write_lines(folder / "rows.jsonl", patterns(3))
        (folder / "imports.toml").write_text(IMPORT.format("often", "1s") + IMPORT.format("now", "1d"))
        own = {
            "PATTERN_STORAGE_KEY_PREFIX": PREFIX,
            "PATTERN_STORAGE_IMPORTS_FILE": str(folder / "imports.toml"),
        }
        self.of: dict[str, dict[str, Any]] = {
            service: own | {"DATABASE_URL": database_url, "REDIS_URL": users.url(service)} for service in RIGHTS
        }
        self.worker: StorageWorker = launch_worker(
            database_url, users.url("worker"), folder / "worker.log", env=own | PATIENT
        )
        stack.callback(self.worker.teardown)
        for service, command in {
            "relay": ("pattern_storage", "relay"),
            "beat": ("celery", "-A", "pattern_storage", "beat", "-s", str(folder / "schedule")),
        }.items():
            group = ProcessGroup(service, command, clean_environment(**self.of[service]), folder / f"{service}.log")
            stack.callback(group.discard)
        self.flower = Flower(self.worker, folder, **self.of["flower"])
        stack.callback(self.flower.group.discard)
        wait_until(self.is_heard, "Flower hears the worker")

    def is_heard(self) -> bool:
        with suppress(OSError):
            return any(self.flower.ask("/api/workers?status=1").json.values())
        return False


def test_the_whole_system(
    users: Users, database_url: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        system = System(users, database_url, tmp_path, stack)
        with monkeypatch.context() as patch:
            patch.setenv("PATTERN_STORAGE_KEY_PREFIX", PREFIX)
            use_clients(system, cli)
        use_commands(system, cli)
        use_flower(system)
        runs = "SELECT count(*) > 2 FROM import_runs WHERE finished_at IS NOT NULL"
        with psycopg.connect(database_url, autocommit=True) as connection:
            wait_until(lambda: connection.execute(runs).fetchone() == (True,), "beat has imports run")
        counted = {service: users.connections(service) for service in CONNECTIONS}
        assert all(counted[service] <= limit for service, limit in CONNECTIONS.items()), counted
        assert users.refused() == []
        assert system.worker.stop() == 0
    assert users.refused() == []


def use_clients(system: System, cli: Cli) -> None:
    url = system.users.url("client")
    with PatternStorageClient(redis_url=url) as client:
        do_everything(client, system.database_url)
        chosen = client.query(limit=1, correlation_id="00000000-0000-4000-8000-000000000001")
        assert chosen.result(DEADLINE).success
    with PatternStorageClient(redis_url=url, database_url=system.database_url) as client:
        client.insert(make_pattern()).cancel()
        with locked_patterns(system.database_url):
            job = client.insert(make_pattern()).correlation_id
            assert system.flower.ask(f"/api/task/revoke/{job}", data=b"").status == 200
        replay_dead_letter(client.database, cli, system.of["command-line"])


def replay_dead_letter(database: Database, cli: Cli, variables: dict[str, Any]) -> None:
    asked = contract("insert", data=make_pattern())
    last = ModelResult(success=False, error="the line was cut", metadata={"error_type": "connection_lost"})
    run_sync(database.run(lambda connection: dead_letters.add(connection, asked, last, attempts=5)))
    assert cli("dead-letters", "replay", "--all", **variables).code == 0
    job = str(asked.correlation_id)
    wait_until(lambda: cli("status", job, **variables).out.split()[0] == "SUCCESS", "it is done")


def use_commands(system: System, cli: Cli) -> None:
    variables, node = system.of["command-line"], system.worker.hostname()
    assert cli("insert", "pattern_name=x", *fix_cli.PATTERN, **variables).code == 0
    assert cli("query", **variables).code == 0
    assert cli("imports", "run", "now", **variables).code == 0
    assert system.users.refused() == []
    found = {line["subject"]: line for line in cli("doctor", "--json", **variables).json}
    assert found["workers"]["found"] == node
    assert "command-line" in found["Redis (results and queue): rights"]["found"]
    # It asks for all services, and is refused what its own user needs not.
    system.users.admin.acl_log_reset()
    for service, options in {
        "worker": ("--name", node),
        "relay": (),
        "beat": ("--schedule", str(system.folder / "schedule")),
        "flower": (),
    }.items():
        # Inside the service's container, as its user.
        flower = {name: value for name, value in system.flower.variables.items() if "FLOWER" in name}
        own: dict[str, Any] = flower | system.of[service]
        assert cli("health", service, *options, **own).code == 0, service


def use_flower(system: System) -> None:
    pages = ("/workers", "/broker", "/tasks", "/api/workers?refresh=1", "/api/queues/length")
    for page in (*pages, f"/worker/{system.worker.hostname()}"):
        assert system.flower.ask(page).status == 200, (page, system.users.refused())
