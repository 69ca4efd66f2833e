"""Everything fails at random under every kind of client: in the end nothing is lost, and nothing was done twice.

`SOAK_SEED` repeats the faults of another run, `SOAK_SECONDS` says how long they last.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redis

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_chaos import Chaos
from tests.fix_faults import SAFE, SOON
from tests.fix_imports import patterns, write_lines
from tests.fix_invariant import open_transactions
from tests.fix_load import Load
from tests.fix_process import DEADLINE, ProcessGroup, StartProcess, wait_until
from tests.fix_soak import SoakCheck
from tests.fix_soak_clients import SoakClients
from tests.fix_soak_faults import SoakFaults, SyncedValkey

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))

#: All that waits comes back soon, and no job is given up. Workers take few jobs ahead: on a slow machine more would
#: pass the visibility timeout.
SETTINGS = SOON | SAFE | {
    "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "12",
    "PATTERN_STORAGE_TASK_TIME_LIMIT": "15",
    "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "18",
    "PATTERN_STORAGE_GROUP_SIZE": "8",
    "PATTERN_STORAGE_MAX_ATTEMPTS": "1000",
    "PATTERN_STORAGE_RELAY_REPUBLISH_DELAY": "5",
    "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "2",
}  # fmt: skip
#: What services say when they have started.
STARTED = {"worker": " ready.", "relay": "relay: started", "beat": "beat: Starting"}
ROWS = 20
IMPORTS = """
[[import]]
name = "often"
source = "often.jsonl"
every = "5s"
on_conflict = "skip"
"""
#: What may not be left, beside messages.
LEFT = """
SELECT (SELECT count(*) FROM outbox) AS outbox, (SELECT count(*) FROM dead_letters) AS dead_letters,
       (SELECT count(*) FROM import_runs WHERE finished_at IS NULL AND name <> 'often') AS runs
"""


@pytest.fixture
def soak_valkey(server_directory: Path) -> Iterator[SyncedValkey]:
    server = SyncedValkey(server_directory / "soak", durable=True)
    server.appendfsync = random.Random(SEED).choice(["always", "everysec"])
    with server:
        yield server


@pytest.fixture
def soak_load(mortal_database: str, soak_valkey: SyncedValkey) -> Iterator[Load]:
    client = PatternStorageClient(database_url=mortal_database, redis_url=soak_valkey.url, connect_timeout=2.0)
    with closing(Load(mortal_database, soak_valkey.url, client=client)) as opened:
        yield opened


@pytest.fixture
def services(start_process: StartProcess, soak_load: Load, tmp_path: Path) -> dict[str, ProcessGroup]:
    """Two workers of two processes or threads, a relay, and a beat with an import."""
    write_lines(tmp_path / "often.jsonl", patterns(ROWS, source="often"))
    (tmp_path / "imports.toml").write_text(IMPORTS)
    variables = SETTINGS | {
        "DATABASE_URL": soak_load.database_url,
        "REDIS_URL": soak_load.redis_url,
        "PATTERN_STORAGE_IMPORTS_FILE": str(tmp_path / "imports.toml"),
    }

    def celery(command: str, *options: str) -> ProcessGroup:
        return start_process("celery", "-A", "pattern_storage", command, "-l", "INFO", *options, **variables)

    chance = random.Random(SEED)
    other_pool = chance.choice(["prefork", "prefork", "threads"])
    variables["PATTERN_STORAGE_GROUP_EXECUTION"] = chance.choice(["true", "true", "false"])
    started = {
        f"worker-{number}": celery("worker", "-P", pool, "-c", "2", "-n", f"{number}@soak")
        for number, pool in enumerate(["prefork", other_pool])
    }
    for worker in started.values():
        worker.wait_for(" ready.")
    started["relay"] = start_process("pattern_storage", "relay", **variables)
    started["beat"] = celery("beat", "-s", str(tmp_path / "beat"))
    return started


def wait_settled(load: Load, faults: SoakFaults) -> None:
    """Wait until there is no message anywhere, nothing that becomes one, and no transaction."""
    with redis.Redis.from_url(load.redis_url) as store, load.connect() as connection:

        def left() -> dict[str, object]:
            faults.notice_ends(set())
            found: dict[str, object] = dict(connection.execute(LEFT).fetchall()[0])
            # All lists: queues of every priority, messages that are being claimed, and such that were unreadable.
            found |= {key.decode(): store.llen(key) for key in store.scan_iter(_type="list", count=1_000)}
            found["unacked"] = store.hlen(UNACKED_KEYS["unacked_key"])
            found["transactions"] = open_transactions(connection)
            return {name: number for name, number in found.items() if number}

        try:
            wait_until(lambda: not left(), "nothing is left", 10 * DEADLINE)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left()}") from None


def stop(name: str, service: ProcessGroup) -> None:
    """End a service in an orderly way, once it has started; no process of it may be left."""
    service.wait_for(STARTED[name.partition("-")[0]])
    processes = psutil.Process(service.process.pid).children(recursive=True)
    service.process.terminate()
    assert service.process.wait(2 * DEADLINE) == 0, name
    wait_until(lambda: not any(process.is_running() for process in processes), f"all processes of {name} have ended")


def test_soak(
    soak_load: Load,
    mortal_postgres: EmbeddedPostgres,
    soak_valkey: SyncedValkey,
    services: dict[str, ProcessGroup],
    tmp_path: Path,
) -> None:
    print(f"SOAK_SEED={SEED} appendfsync={soak_valkey.appendfsync}")  # noqa: T201
    clients = SoakClients(soak_load, random.Random(SEED + 2), tmp_path)
    faults = SoakFaults(random.Random(SEED + 1), mortal_postgres, soak_valkey, soak_load.database_url, services)
    chaos = Chaos(random.Random(SEED), faults.all, faults.notice_ends)
    clients.start()
    try:
        chaos.run(SECONDS)
    finally:
        clients.stop()
        print(*chaos.done, sep="\n")  # noqa: T201
    wait_settled(soak_load, faults)
    check = SoakCheck(soak_load, clients.jobs, may_lose=soak_valkey.appendfsync != "always")
    check.check_rest(clients.counters, "often", ROWS)
    print(f"{Counter(check.ends)} after {len(chaos.done)} faults")  # noqa: T201
    wrong = check.wrong + clients.surprises + faults.surprises
    assert not wrong, f"{len(wrong)} with SOAK_SEED={SEED}:\n" + "\n".join(wrong[:10])
    for name, service in services.items():
        stop(name, service)
    with soak_load.connect() as connection:
        others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        wait_until(lambda: not connection.execute(others).fetchall(), "no session is left")
