"""A worker that measures itself, jobs of every outcome for it, and what a scrape of it says."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.embedded.ports import port_for
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StorageWorker, launch_worker, locked_patterns
from tests.fix_imports import make_plan, patterns, queue_run, write_lines
from tests.fix_process import ROOT, wait_until
from tests.fix_servers import create_database, drop_database, on_database
from tests.fix_storage import contract, make_pattern

#: So that a job under a lock is a dead letter within a second.
QUICK = {
    "PATTERN_STORAGE_LOCK_TIMEOUT": "0.1",
    "PATTERN_STORAGE_MAX_ATTEMPTS": "2",
    "PATTERN_STORAGE_RETRY_BACKOFF": "0",
}


class Scrape:
    """What an endpoint said, parsed by Prometheus's own client."""

    def __init__(self, port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            self.text = answer.read().decode()
        self.families = list(text_string_to_metric_families(self.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, /, **labels: str) -> float:
        """Return the sum of the samples of `pattern_storage_<name>` that have these labels; 0 if there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"pattern_storage_{name}" and labels.items() <= sample.labels.items()
        )

    def labels(self) -> dict[str, set[str]]:
        """Return the labels of each exported sample by its name."""
        found: dict[str, set[str]] = {}
        for sample in self.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
        return found


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules that we deploy."""
    [group] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def expressions() -> dict[str, str]:
    """Return every expression of alerts and dashboard by where it stands; a minute is the dashboard's interval."""
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/pattern-storage.json").read_text(encoding="utf-8"))
    found = {rule["alert"]: rule["expr"] for rule in alerts()}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "1m")
    return found


def free_port(folder: Path) -> int:
    """Return a free TCP port on 127.0.0.1."""
    return port_for(folder / f"{uuid4().hex}.port")


@dataclass
class Measured:
    """A worker with an endpoint, on servers of its own."""

    worker: StorageWorker
    client: PatternStorageClient
    plain: Celery
    port: int
    folder: Path

    def import_rows(self) -> None:
        """Import a file twice: of its rows two are new, one is rejected, and what is there is updated, then skipped."""
        source = write_lines(self.folder / "rows.jsonl", [*patterns(2), {"pattern_name": "no more than a name"}])
        for changes in ({"on_conflict": "update", "max_bad_rows": 1}, {"on_conflict": "skip", "max_bad_rows": 1}):
            # Another file to the eye: a source that has not changed is not read again.
            source.write_text(source.read_text() + "\n")
            plan = make_plan(source, **changes)
            due = datetime.now(UTC) - timedelta(hours=1)
            run = queue_run(self.worker.database_url, self.worker.redis_url, plan, due=due)
            assert self.client.get(run).result(timeout=60).success
        with psycopg.connect(self.worker.database_url) as connection:
            connection.execute("INSERT INTO import_schedules VALUES ('nightly', now())")

    def scrape(self) -> Scrape:
        return Scrape(self.port)

    def wait_for(self, what: str, holds: Callable[[Scrape], Any]) -> Scrape:
        """Scrape until it holds, and return the scrape. A counter follows the result that it counts."""

        def good() -> Scrape | None:
            scrape = self.scrape()
            return scrape if holds(scrape) else None

        scrape: Scrape = wait_until(good, what)
        return scrape


def exercise(measured: Measured) -> None:
    """Run jobs of every operation and every outcome, leave one dead letter and one job in the outbox."""
    client, url = measured.client, measured.worker.database_url
    pattern = make_pattern()
    inserted = client.insert(pattern).result(timeout=60)
    pattern_id = inserted.data["pattern_id"]
    assert client.insert(pattern).result(timeout=60).metadata["error_type"] == "unique_violation"
    assert client.update(pattern_id, {"description": "measured"}).result(timeout=60).success
    assert client.query(limit=1).result(timeout=60).success
    assert client.batch_insert([make_pattern() for _ in range(3)]).result(timeout=60).success
    assert client.delete(pattern_id).result(timeout=60).success
    once = contract("insert", data=make_pattern())
    assert client.submit(once).result(timeout=60).success
    client.submit(once)
    measured.wait_for("the replay", lambda scrape: scrape.value("ledger_replays_total", operation="insert") == 1)
    cancelled = contract("insert", data=make_pattern())
    assert client.get(cancelled.correlation_id).cancel().metadata["error_type"] == "revoked"
    client.submit(cancelled)
    measured.wait_for("the revoked job", lambda scrape: scrape.value("jobs_total", outcome="revoked") == 1)
    with locked_patterns(url):
        dead = client.insert(make_pattern()).result(timeout=60)
    assert dead.metadata["dead_letter"], dead
    # Nothing that another producer sends says when it was sent.
    foreign = str(uuid4())
    measured.plain.send_task(
        "storage.insert", kwargs={"contract": {"data": make_pattern()}}, task_id=foreign, queue="storage"
    )
    assert measured.plain.AsyncResult(foreign).get(timeout=60)["success"]
    measured.import_rows()
    with psycopg.connect(url) as connection:
        client.submit_in(connection, contract("insert", data=make_pattern()))


@pytest.fixture(scope="session")
def measured(
    postgres_url: str, template_database: str, server_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Measured]:
    """A worker that has run jobs of every outcome; tests may read and add, not stop."""
    folder = tmp_path_factory.mktemp("measured")
    name = create_database(postgres_url, template_database)
    database_url, port = on_database(postgres_url, name), free_port(folder)
    with EmbeddedValkey(server_directory / "measured", durable=False) as valkey:
        worker = launch_worker(
            database_url, valkey.url, folder / "worker.log",
            env=QUICK | {"PATTERN_STORAGE_METRICS_PORT": str(port), "PATTERN_STORAGE_DATA_DIR": str(folder)},
            options=("--without-mingle", "--without-gossip"),
        )  # fmt: skip
        try:
            with (
                PatternStorageClient(redis_url=valkey.url, database_url=database_url) as client,
                closing(Celery("plain", broker=valkey.url, backend=valkey.url, set_as_current=False)) as plain,
            ):
                ready = Measured(worker, client, plain, port, folder)
                exercise(ready)
                yield ready
        finally:
            worker.teardown()
    drop_database(postgres_url, name)
