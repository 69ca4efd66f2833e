"""Updates that expect a version, with two workers whose processes are killed: none is lost, none is done twice."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE
from tests.fix_storage import make_pattern

CALLERS = 4
INCREMENTS = 12


def test_no_increment_is_lost(launch: Launch, load: Load) -> None:
    """Each caller reads the count, writes one more, and begins anew where somebody else was quicker."""
    patient = {"PATTERN_STORAGE_MAX_ATTEMPTS": "1000"}
    workers = [launch(load.database_url, load.redis_url, concurrency=2, env=SOON | SAFE | patient) for _ in range(2)]
    client = load.client
    pattern_id = client.insert(make_pattern()).result(DEADLINE).data["pattern_id"]
    conflicts: list[str] = []

    def increment(_: int) -> None:
        for _ in range(INCREMENTS):
            while True:
                [found] = client.query(id=pattern_id).result(DEADLINE).data["patterns"]
                job = client.update(pattern_id, {"usage_count": found["usage_count"] + 1}, expect=found["updated_at"])
                result = job.result(DEADLINE)
                if result.success:
                    break
                assert result.metadata["error_type"] == "version_conflict", result
                conflicts.append(result.metadata["present_updated_at"])

    over = Event()

    def kill() -> None:
        turn = 0
        while not over.wait(0.7):
            turn += 1
            for child in workers[turn % 2].children()[:1]:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    with ThreadPoolExecutor(CALLERS + 1) as threads:
        killing = threads.submit(kill)
        try:
            list(threads.map(increment, range(CALLERS)))
        finally:
            over.set()
        killing.result()
    [found] = client.query(id=pattern_id).result(DEADLINE).data["patterns"]
    assert found["usage_count"] == CALLERS * INCREMENTS
    assert conflicts, "nobody was too late: the callers have not met"
