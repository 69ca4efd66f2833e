"""Processes that are replaced after so many jobs or with so much memory: jobs count, not groups, and none is lost."""

import re
from collections import Counter

from pattern_storage.config.settings import Settings
from tests.fix_celery import StorageWorker
from tests.fix_faults import GROUPS, SAFE, SOON, Launch
from tests.fix_load import Load

GROUP_SIZE = 8
SMALL_GROUPS = {"PATTERN_STORAGE_GROUP_SIZE": str(GROUP_SIZE)}


def done_by(worker: StorageWorker) -> Counter[str]:
    """How many jobs each process has done."""
    return Counter(re.findall(r"/(ForkPoolWorker-\d+)\] .* succeeded in ", worker.logs()))


def test_max_tasks_per_child_counts_jobs(launch: Launch, load: Load) -> None:
    """A process ends with the group in which it comes to its number."""
    limit, size = 40, Settings.model_fields["group_size"].default if GROUPS else 1
    jobs = load.inserts(300)
    load.submit(jobs)
    options = ("--max-tasks-per-child", str(limit))
    worker = launch(load.database_url, load.redis_url, *options, concurrency=1, env=SOON | SAFE)
    assert load.settle().counts == {"done": len(jobs)}
    done = done_by(worker)
    assert done.total() == len(jobs)
    assert max(done.values()) < limit + size
    # Only the last one has not come to its number, or to any job.
    assert sorted(done.values())[1] >= limit, done


def test_max_memory_per_child(launch: Launch, load: Load) -> None:
    """Each process has more than this before its first job, and ends with the group that it begins with."""
    jobs = load.inserts(4 * GROUP_SIZE if GROUPS else 4)
    load.submit(jobs)
    options = ("--max-memory-per-child", "1000")
    worker = launch(load.database_url, load.redis_url, *options, concurrency=1, env=SOON | SAFE | SMALL_GROUPS)
    assert load.settle().counts == {"done": len(jobs)}
    done = done_by(worker)
    assert done.total() == len(jobs)
    assert len(done) >= 4
    assert max(done.values()) <= (GROUP_SIZE if GROUPS else 1), done
