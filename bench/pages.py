"""Flower's pages: how long each takes at 1,000,000 ledger rows and 100,000 waiting jobs.

Milliseconds are the median of several requests, from the request to the last byte, and the CPU time of Flower and of
PostgreSQL's processes, which other work on the machine does not change.

    python -m bench.pages [ROWS [WAITING]]      1000000 and 100000 if left out; Linux only
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import redis

from bench.growth_costs import cpu
from bench.jobs import FILL
from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.storage import schema
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_flower import Flower, GivenServers

ROWS, WAITING = 1_000_000, 100_000
CALLS = 9
STEP = 5_000

PAGES = (
    "/overview", "/overview?span=day", "/jobs", "/jobs?state=FAILURE", "/jobs?state=QUEUED",
    "/jobs?error_type=statement_timeout",
    "/jobs?operation=delete", "/jobs?name=nobody", "/jobs?name=waiting+500", "/jobs?order=longest",
    "/jobs/{job}", "/dead-letters", "/dead-letters?operation=delete&name=pattern+7", "/dead-letters/replay",
    "/imports", "/imports/history?name=import+7", "/imports/runs/{run}", "/queues", "/queues/of/storage",
    "/queues/of/storage?from=90000", "/patterns", "/patterns?name=pattern+7", "/patterns/{pattern}", "/audit",
    "/audit?actor=ann", "/workers", "/tasks",
)  # fmt: skip

#: Rows of the other tables.
OTHERS = (
    """INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code, updated_at)
       SELECT 'pattern ' || n, 'function', 'python', repeat(md5(n::text), 10), now() - n * interval '1 second'
       FROM generate_series(1, 100000) AS n""",
    """INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, died_at, operation,
                                 pattern_name)
       SELECT gen_random_uuid(), json_build_object('operation', 'delete', 'pattern_id', gen_random_uuid()),
              'connection_lost', 'row ' || n || ' is away', 5, now(), now() - n * interval '1 second',
              CASE n % 2 WHEN 0 THEN 'insert' ELSE 'delete' END, 'pattern ' || n
       FROM generate_series(1, 10000) AS n""",
    """INSERT INTO import_runs (run_id, name, due, plan, state, queued_at, started_at, finished_at, source_version)
       SELECT gen_random_uuid(), 'import ' || n % 20, at, '{"source": "x"}',
              CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'done' END, at, at, at + interval '1 minute', 'v1'
       FROM generate_series(1, 5000) AS n, LATERAL (SELECT now() - n * interval '1 hour' AS at) AS t""",
    """INSERT INTO audit_log (at, actor, action, filter, count)
       SELECT now() - n * interval '1 minute', CASE n % 100 WHEN 0 THEN 'ann' ELSE 'bob' END, 'cancel',
              jsonb_build_object('jobs', jsonb_build_array(gen_random_uuid())), 1
       FROM generate_series(1, 50000) AS n""",
    "VACUUM ANALYZE",
)
#: Ids for the paths above.
IDS = {
    "job": "SELECT correlation_id FROM job_ledger WHERE state = 'FAILURE' OFFSET 50 LIMIT 1",
    "run": "SELECT run_id FROM import_runs LIMIT 1",
    "pattern": "SELECT id FROM pattern_templates WHERE pattern_name = 'pattern 7'",
}


def fill_queue(url: str, database_url: str, count: int) -> None:
    """Have so many jobs wait, each with an id and a name of its own."""
    with PatternStorageClient(redis_url=url, database_url=database_url) as client, redis.Redis.from_url(url) as server:
        pattern = {"pattern_name": "waiting", "pattern_type": "t", "language": "l", "template_code": "x" * 300}
        client.insert(pattern)  # type: ignore[arg-type]
        [message] = server.lrange("storage", 0, -1)
        fields = json.loads(message)
        old = fields["headers"]["id"]
        server.delete("storage")
        text = json.dumps(fields)
        for start in range(0, count, STEP):
            server.lpush("storage", *(text.replace(old, str(uuid4())) for _ in range(min(STEP, count - start))))


def spent(flower: int, postgres: int) -> tuple[int, int]:
    """Return the nanoseconds of CPU of Flower and of PostgreSQL's processes until now."""
    return cpu(flower), sum(cpu(child.pid) for child in psutil.Process(postgres).children())


def main() -> None:
    """Run on servers of our own."""
    rows, waiting = (int(given) for given in (*sys.argv[1:], *map(str, (ROWS, WAITING)[len(sys.argv) - 1 :])))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "valkey") as valkey:
            schema.upgrade(postgres.url)
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute(FILL, {"rows": rows})
                connection.execute(
                    "UPDATE job_ledger SET state = CASE WHEN result ->> 'success' = 'true' THEN 'SUCCESS'"
                    " WHEN result #>> '{metadata,error_type}' = 'revoked' THEN 'REVOKED' ELSE 'FAILURE' END,"
                    " operation = result #>> '{metadata,operation}', error_type = result #>> '{metadata,error_type}',"
                    " pattern_name = result #>> '{data,pattern_name}', queue = 'storage', worker = 'celery@bench',"
                    " attempts = 1, duration_ms = (result #>> '{metadata,duration_ms}')::real,"
                    " sent_at = finished_at - interval '1 second', claimed_at = finished_at - interval '0.5 seconds'"
                )
                for statement in OTHERS:
                    connection.execute(statement)
                ids = {name: connection.execute(statement).fetchall()[0][0] for name, statement in IDS.items()}
            fill_queue(valkey.url, postgres.url, waiting)
            flower = Flower(GivenServers(postgres.url, valkey.url), folder).ready()
            pid = postgres.process.pid if hasattr(postgres, "process") else postmaster(folder)
            try:
                print(f"{'page':>50} {'ms':>8} {'Flower':>8} {'PostgreSQL':>11}   {rows:,} rows, {waiting:,} waiting")
                for page in PAGES:
                    path = page.format(**ids)
                    flower.ask(path)
                    took = []
                    before = spent(flower.group.process.pid, pid)
                    for _ in range(CALLS):
                        began = time.perf_counter()
                        answer = flower.ask(path)
                        took.append(1_000 * (time.perf_counter() - began))
                        assert answer.status == 200, (path, answer)
                    after = spent(flower.group.process.pid, pid)
                    used = [(end - begin) / CALLS / 1e6 for begin, end in zip(before, after, strict=True)]
                    print(f"{page:>50} {statistics.median(took):8.0f} {used[0]:8.0f} {used[1]:11.0f}", flush=True)
            finally:
                flower.group.discard()


def postmaster(folder: Path) -> int:
    """Return the process id of the server in that folder."""
    [file] = folder.rglob("postmaster.pid")
    return int(file.read_text().split()[0])


if __name__ == "__main__":
    main()
