"""STARTED in Redis: stored for jobs that are still running after half a second, and for no others."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
import pytest
import redis

from pattern_storage.tasks.client.result_document import result_key
from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until

ALL_SEEN = "that was all"
#: Seconds for which a job is running before that is stored.
SLOW = 0.5


class Write(NamedTuple):
    """A state that was written to a job's result key, and when, by the clock of Redis."""

    at: float
    state: str


def writes_of(monitor: Any, keys: Iterable[str]) -> dict[str, list[Write]]:
    """Return what was written to each of these keys until ALL_SEEN."""
    found: defaultdict[str, list[Write]] = defaultdict(list)
    wanted = set(keys)
    while ALL_SEEN not in (seen := monitor.next_command())["command"]:
        name, _, values = seen["command"].partition(" ")
        key, _, document = values.partition(" ")
        if name.upper() == "SET" and key in wanted:
            state, _ = json.JSONDecoder().raw_decode(document.partition(":")[2].strip())
            found[key].append(Write(seen["time"], state))
    return found


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_only_jobs_that_are_slow_are_stored_as_started(launch: Launch, load: Load, pool: str) -> None:
    """The worker's one write of all others is their end, be they alone or many at once."""
    slow = next(one for one in load.mixed(20) if one.operation == "update")
    lone, many = load.inserts(10), load.inserts(50)
    launch(load.database_url, load.redis_url, pool=pool, env=SOON | SAFE)
    with redis.Redis.from_url(load.redis_url) as store, store.monitor() as monitor:
        for one in lone:
            load.submit([one])
            assert load.client.get(one.correlation_id).result(DEADLINE).success
        load.submit(many)
        load.wait_done(60)
        with psycopg.connect(load.database_url) as holder:
            holder.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [slow.pattern_id])
            load.submit([slow])
            wait_until(lambda: load.client.get(slow.correlation_id).status() == "STARTED", "it is seen to be running")
        assert load.settle().counts == {"done": 61}
        store.echo(ALL_SEEN)
        writes = writes_of(monitor, (result_key(job) for job in load.accepted))
    assert [state for _, state in writes.pop(result_key(slow.correlation_id))] == ["QUEUED", "STARTED", "SUCCESS"]
    assert len(writes) == 60
    for queued, *running, end in writes.values():
        assert (queued.state, end.state) == ("QUEUED", "SUCCESS")
        # On a busy machine any job may be a slow one.
        assert [write for write in running if write.state != "STARTED" or write.at < queued.at + SLOW] == []
