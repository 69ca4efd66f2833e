"""Flower remembers jobs that it has seen, whether it was stopped or killed."""

from pathlib import Path

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StorageWorker
from tests.fix_flower import Flower
from tests.fix_storage import make_pattern


def test_jobs_outlast_a_stop_and_a_kill(
    worker: StorageWorker, served_client: PatternStorageClient, tmp_path: Path
) -> None:
    other = Flower(worker, tmp_path)
    try:
        other.ready()
        first = served_client.insert(make_pattern())
        other.job(first.correlation_id, "SUCCESS")
        other.group.kill("SIGTERM")
        assert other.group.process.wait(30) == 0
        other.group.start()
        other.ready()
        assert other.job(first.correlation_id, "SUCCESS")["routing_key"] == "storage"

        second = served_client.insert(make_pattern())
        other.job(second.correlation_id, "SUCCESS")
        other.remembers()
        other.group.kill()
        other.group.start()
        other.ready()
        for job in (first, second):
            assert other.job(job.correlation_id, "SUCCESS")
        assert [path for path in other.files() if path.stat().st_mode & 0o077] == []
    finally:
        other.group.discard()
