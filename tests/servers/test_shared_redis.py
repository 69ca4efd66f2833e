"""Two installations in one Redis database, told apart by nothing but `PATTERN_STORAGE_KEY_PREFIX`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import launch_worker
from tests.fix_cli import Cli
from tests.fix_everything import PATIENT, do_everything
from tests.fix_flower import Flower
from tests.fix_process import DEADLINE, ProcessGroup, clean_environment, wait_until
from tests.fix_servers import create_database, drop_database, on_database
from tests.fix_storage import make_pattern

VARIABLE = "PATTERN_STORAGE_KEY_PREFIX"


class Installation:
    """A worker, a relay and Flower under one prefix, with a database of their own."""

    def __init__(self, prefix: str, database_url: str, redis_url: str, folder: Path, stack: ExitStack) -> None:
        self.prefix, self.database_url = prefix, database_url
        self.variables: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, VARIABLE: prefix}
        own = {VARIABLE: prefix}
        self.worker = launch_worker(
            database_url, redis_url, folder / f"{prefix}worker.log", concurrency=1, env=PATIENT | own
        )
        stack.callback(self.worker.teardown)
        environment = clean_environment(**self.variables)
        relay = ProcessGroup("relay", ["pattern_storage", "relay"], environment, folder / f"{prefix}relay.log")
        stack.callback(relay.discard)
        (folder / prefix).mkdir()
        self.flower = Flower(self.worker, folder / prefix, **own)
        stack.callback(self.flower.group.discard)

    def is_heard(self) -> bool:
        """Whether Flower serves pages and hears events."""
        with suppress(OSError):
            return any(self.flower.ask("/api/workers?status=1").json.values())
        return False


@contextmanager
def as_client(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[PatternStorageClient]:
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, installation.prefix)
        with PatternStorageClient(redis_url=installation.variables["REDIS_URL"]) as client:
            yield client


@pytest.fixture
def installations(
    lone_valkey: EmbeddedValkey, postgres_url: str, template_database: str, tmp_path: Path
) -> Iterator[list[Installation]]:
    with ExitStack() as stack:
        both = []
        for prefix in ("team-a:", "team-b:"):
            name = create_database(postgres_url, template_database)
            stack.callback(drop_database, postgres_url, name)
            both.append(Installation(prefix, on_database(postgres_url, name), lone_valkey.url, tmp_path, stack))
        for each in both:
            wait_until(each.is_heard, "Flower hears the worker")
        yield both


def test_two_installations_side_by_side(
    installations: list[Installation], lone_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    jobs = []
    for each in installations:
        with as_client(each, monkeypatch) as client:
            do_everything(client, each.database_url)
            jobs.append(str(client.insert(make_pattern()).correlation_id))
            assert client.get(jobs[-1]).result(DEADLINE).success
    with redis.Redis.from_url(lone_valkey.url) as store:
        found = {key.decode() for key in store.scan_iter(count=1_000)}
    assert {name.partition(":")[0] for name in found} == {"team-a", "team-b"}, found
    for each, own, other in zip(installations, jobs, reversed(jobs), strict=True):
        assert cli("status", own, **each.variables).out.split()[0] == "SUCCESS"
        assert cli("status", other, **each.variables).out.split()[0] == "UNKNOWN"
        workers = {line["subject"]: line for line in cli("doctor", "--json", **each.variables).json}["workers"]
        assert workers["found"] == each.worker.hostname()
        assert cli("health", "worker", "--name", each.worker.hostname(), **each.variables).code == 0
        wait_until(
            lambda each=each, own=own: each.flower.ask(f"/api/task/info/{own}").status == 200,  # type: ignore[misc]
            "Flower has heard of it",
        )
        assert each.flower.ask(f"/api/task/info/{other}").status == 404
        assert list(each.flower.ask("/api/workers?refresh=1").json) == [each.worker.hostname()]
        queues = {queue["name"] for queue in each.flower.ask("/api/queues/length").json["active_queues"]}
        assert "storage" in queues
