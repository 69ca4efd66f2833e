"""The files in deploy/prometheus, judged by Debian's Prometheus, which scrapes a real worker and a real relay."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fix_metrics import Measured, alerts, expressions, free_port
from tests.fix_process import ROOT, ProcessGroup, clean_environment, wait_until
from tests.fix_storage import contract, make_pattern

FILES = ROOT / "deploy/prometheus"

for program in ("prometheus", "promtool"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed; make setup-servers installs it", allow_module_level=True)


def test_promtool_accepts_the_files() -> None:
    for check, file in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        done = subprocess.run(
            ["promtool", "check", check, str(FILES / file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_alone() -> None:
    file = ROOT / "tests/servers/alerts_test.yml"
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stories = yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
    assert [story["name"] for story in stories] == [rule["alert"] for rule in alerts()]
    for story in stories:
        seen = [[sample["labels"] for sample in test["exp_samples"]] for test in story["promql_expr_test"]]
        assert seen[:2] == [[], [f'{{alertname="{story["name"]}"}}']]


class Prometheus:
    """A Prometheus that scrapes this worker and relay twice a second, with the rules that we deploy."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        config = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] |= {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        # Of the jobs that we deploy, those whose services run here; their names are not known here.
        config["scrape_configs"] = [
            {"job_name": job["job_name"], "static_configs": [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]}
            for job in config["scrape_configs"]
            if job["job_name"] in targets
        ]
        assert len(config["scrape_configs"]) == len(targets)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(FILES / "alerts.yml", folder)
        self.url = f"http://127.0.0.1:{free_port(folder)}"
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus", f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

        def ready() -> bool:
            assert self.process.poll() is None, (folder / "prometheus.log").read_text()
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=30) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(ready, "Prometheus is ready")

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its HTTP API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """Return the one value of an expression, 0 while there is none."""
        return sum(float(sample["value"][1]) for sample in self.query(expression))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def prometheus(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port(folder)
    relay = ProcessGroup(
        "relay", ["pattern_storage", "relay"],
        clean_environment(
            DATABASE_URL=measured.worker.database_url, REDIS_URL=measured.worker.redis_url,
            PATTERN_STORAGE_METRICS_PORT=str(port),
        ),
        folder / "relay.log",
    )  # fmt: skip
    started = Prometheus(folder, {"pattern-storage-worker": measured.port, "pattern-storage-relay": port})
    try:
        wait_until(lambda: started.value("sum(up)") == 2, "both are scraped")
        # More of everything, so that there are rates.
        for _ in range(3):
            pattern = make_pattern()
            jobs = [
                measured.client.insert(pattern),
                measured.client.insert(pattern),
                measured.client.batch_insert([make_pattern(), make_pattern()]),
                measured.client.submit(contract("query", query_params={"limit": 1})),
            ]
            for job in jobs:
                job.result(timeout=60)
        yield started
    finally:
        started.stop()
        relay.discard()


def test_what_was_scraped_can_be_asked_for(prometheus: Prometheus, measured: Measured) -> None:
    exported = measured.scrape()
    for operation in ("delete", "update"):
        jobs = f'pattern_storage_jobs_total{{operation="{operation}", outcome="success"}}'
        assert prometheus.value(jobs) == exported.value("jobs_total", operation=operation, outcome="success") == 1
    assert prometheus.value("max(pattern_storage_dead_letters)") == 1
    assert prometheus.value('sum(up{job="pattern-storage-relay"})') == 1
    # The job that was left in the outbox.
    wait_until(lambda: prometheus.value("sum(pattern_storage_outbox_published_total)") == 1, "it is published")


def test_every_rule_can_be_evaluated(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        [group] = prometheus.ask("rules")["groups"]
        found: list[dict[str, Any]] = group["rules"]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    evaluated = wait_until(rules, "every rule was evaluated")
    assert [rule["name"] for rule in evaluated] == [rule["alert"] for rule in alerts()]
    assert {rule["health"] for rule in evaluated} == {"ok"}, evaluated


def test_alerts_fire(prometheus: Prometheus) -> None:
    """There is a dead letter and there were rejected rows; of what takes longer or did not happen, none fires."""
    expected = {"PatternStorageDeadLetters", "PatternStorageImportRejects"}

    def firing() -> bool:
        found = {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if _fires(alert)}
        assert found <= expected
        return found == expected

    wait_until(firing, "both fire")
    for alert in prometheus.ask("alerts")["alerts"]:
        # Prometheus puts the text of a template's error in the place of what the template should have said.
        assert not re.search(r"<error|<no value|\{\{", json.dumps(alert["annotations"])), alert


def _fires(alert: dict[str, Any]) -> bool:
    return bool(alert["state"] == "firing")


@pytest.mark.parametrize("where", [where for where in expressions() if not where.startswith("PatternStorage")])
def test_every_panel_shows_something(prometheus: Prometheus, where: str) -> None:
    wait_until(lambda: prometheus.query(expressions()[where]), f"{where} has a value")
