"""A process or a worker is killed at every step of a group, or of a job: none is lost, and none is done twice."""

import re
from pathlib import Path

import pytest

from tests.fix_celery import locked_patterns
from tests.fix_deadly_steps import STEPS, DeadlySteps, has_died, jobs_of_the_dead
from tests.fix_faults import GROUPS, Launch, needs_groups
from tests.fix_load import Load
from tests.fix_process import wait_until


@pytest.mark.parametrize(
    ("step", "dies", "pool"),
    [
        *((step, "process", "prefork") for step in STEPS),
        *(
            (step, "worker", pool)
            for step in (*STEPS, "before the acknowledgements")
            for pool in ("prefork", "threads")
        ),
    ],
)
def test_killed_at_every_step(
    launch: Launch, load: Load, deadly_steps: DeadlySteps, step: str, dies: str, pool: str
) -> None:
    """None is lost and none is done twice, whatever had committed; jobs beside a lost process are no attempts."""
    load.watch_attempts()
    load.submit(load.mixed(120))
    environment = deadly_steps(step, dies)
    worker = launch(load.database_url, load.redis_url, "--include=deadly", pool=pool, env=environment)
    wait_until(lambda: has_died(environment), f"a job comes to {step}")
    # It was a group, not one job alone.
    assert (jobs_of_the_dead(environment) > 1) == GROUPS
    if dies == "worker":
        wait_until(lambda: worker.container.status == "exited", "the worker is dead")
        worker.container.group.restart()
    outcomes = load.settle()
    assert outcomes.counts == {"done": 120}
    if dies == "process":
        # A job that was alone with its process has begun again.
        assert len(load.counted()) <= (0 if GROUPS else 1)


@needs_groups
def test_killed_while_a_group_waits_for_a_lock(launch: Launch, load: Load, deadly_steps: DeadlySteps) -> None:
    """Nothing is counted for any of its jobs."""
    load.watch_attempts()
    environment = deadly_steps("in the transaction", "process")
    with locked_patterns(load.database_url):
        load.submit(load.inserts(10))
        worker = launch(load.database_url, load.redis_url, "--include=deadly", concurrency=1, env=environment)
        wait_until(lambda: has_died(environment), "PostgreSQL has a group, which waits")
        wait_until(lambda: " jobs of a lost group" in worker.logs(), "each is executed alone")
    assert load.settle().counts == {"done": 10}
    assert load.counted() == {}


@needs_groups
def test_a_group_in_the_pipe_of_a_lost_process(launch: Launch, load: Load, deadly_steps: DeadlySteps) -> None:
    """It had not begun: another process does it, as a group, and only the jobs of the lost one go alone."""
    load.submit(load.inserts(60))
    environment = deadly_steps("before the transaction", "process") | {"PATTERN_STORAGE_GROUP_SIZE": "4"}
    worker = launch(load.database_url, load.redis_url, "--include=deadly", concurrency=1, env=environment)
    assert load.settle().counts == {"done": 60}
    assert re.findall(r"(\d+) jobs of a lost group", worker.logs()) == ["4"]
    # What had begun, and what had not.
    written = (Path(environment["PYTHONPATH"]) / "put_back").read_text().splitlines()
    assert sorted(written) == ["True False", "True True"]
