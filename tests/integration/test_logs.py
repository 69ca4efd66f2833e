"""Worker, relay and beat log JSON where the setting says so."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StartWorker
from tests.fix_process import ProcessGroup, StartProcess, wait_until
from tests.fix_storage import make_pattern

JSON = {"PATTERN_STORAGE_LOG_FORMAT": "json"}


def logged(text: str) -> list[dict[str, Any]]:
    """Return what the lines say; before the first one Python warns of the user that root is."""
    lines = text.splitlines()
    while lines and not lines[0].startswith("{"):
        lines.pop(0)
    # The last line may be half written.
    return [json.loads(line) for line in (lines if text.endswith("\n") else lines[:-1])]


def test_worker(start_worker: StartWorker, client: PatternStorageClient) -> None:
    worker = start_worker(env=JSON)
    pattern = make_pattern()
    assert client.insert(pattern).result(timeout=60).success
    job = client.insert(make_pattern(parent_pattern_id=str(uuid4())))
    assert not job.result(timeout=60).success

    def loggers() -> set[str]:
        about = [line for line in logged(worker.logs()) if line["correlation_id"] == str(job.correlation_id)]
        return {line["logger"] for line in about}

    # Of the main process, of the job itself, and of what Celery says of its end.
    expected = {"celery.worker.strategy", "pattern_storage.storage.node_base_effect", "celery.app.trace"}
    wait_until(lambda: expected <= loggers(), "all three have logged")
    assert pattern["template_code"] not in worker.logs()


def test_relay_and_beat(start_process: StartProcess, database_url: str, redis_url: str, tmp_path: Path) -> None:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url} | JSON
    relay = start_process("pattern_storage", "relay", **urls)
    options = ("--loglevel", "INFO", "--schedule", str(tmp_path / "schedule"))
    beat = start_process("celery", "--quiet", "-A", "pattern_storage", "beat", *options, **urls)

    def said(process: ProcessGroup, message: str) -> bool:
        return any(message in line["message"] for line in logged(process.text()))

    wait_until(lambda: said(relay, "relay: started"), "the relay has started")
    wait_until(lambda: said(beat, "beat: Starting"), "beat has started")
