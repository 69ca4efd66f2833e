"""Upgrades without downtime: old processes on the new schema, new processes on the old one."""

import re
from contextlib import closing
from pathlib import Path

import psycopg
from alembic.script import ScriptDirectory

from pattern_storage.storage import schema
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StartWorker
from tests.fix_faults import Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import make_pattern

#: What the first release has. Nothing was ever on an older schema.
FIRST_RELEASE = {f"pattern_storage_000{number}" for number in range(1, 9)}

#: What a migration may not do to what the release before it uses; see docs/operations.md.
TAKES_AWAY = re.compile(
    r"\b(DROP (TABLE|COLUMN|FUNCTION|TRIGGER)|RENAME|SET NOT NULL|ALTER COLUMN \w+ (SET DATA )?TYPE|TRUNCATE)\b", re.I
)

#: A migration of the next release, as the rule allows it.
NEXT = """
ALTER TABLE pattern_templates ADD COLUMN reviewed_by text;
ALTER TABLE pattern_templates ADD COLUMN revision integer NOT NULL DEFAULT 1;
ALTER TABLE job_ledger ADD COLUMN host text;
ALTER TABLE outbox ADD COLUMN priority integer NOT NULL DEFAULT 0;
CREATE TABLE reviews (pattern uuid REFERENCES pattern_templates (id) ON DELETE CASCADE, at timestamptz DEFAULT now());
CREATE INDEX pattern_templates_revision ON pattern_templates (revision);
UPDATE pattern_storage_version SET version_num = 'next';
"""


def test_a_migration_only_adds() -> None:
    scripts = ScriptDirectory.from_config(schema._config())
    for revision in scripts.walk_revisions():
        if revision.revision not in FIRST_RELEASE:
            # A list of what to do may be in one constant; going down takes away, of course.
            up = Path(revision.module.__file__ or "").read_text(encoding="utf-8").split("\nDOWN = ")[0]
            assert TAKES_AWAY.findall(up) == [], revision.revision


def test_the_rule_is_looked_for() -> None:
    assert not TAKES_AWAY.search(NEXT)
    assert TAKES_AWAY.search("ALTER TABLE outbox ALTER COLUMN published TYPE bigint")
    assert TAKES_AWAY.search("alter table outbox drop column published")


def test_old_processes_on_the_new_schema(start_worker: StartWorker, database_url: str, redis_url: str) -> None:
    """A worker that has its statements prepared goes on while a migration runs, and after it."""
    start_worker(env={"PATTERN_STORAGE_PREPARE_THRESHOLD": "0"})
    with closing(Load(database_url, redis_url)) as load:
        load.submit(load.mixed(150))
        load.wait_done(30)
        with psycopg.connect(database_url) as connection:
            connection.execute(NEXT)
        load.submit(load.mixed(50))
        assert load.settle().counts == {"done": 200}
        stored = load.client.query(limit=1).result(DEADLINE)
        assert stored.success, stored.error
        # Its columns are those it knows.
        assert "revision" not in stored.data["patterns"][0]


def test_new_processes_on_the_old_schema(launch: Launch, empty_database_url: str, redis_url: str) -> None:
    """Their jobs wait, retried, until somebody migrates."""
    schema.upgrade(empty_database_url, "pattern_storage_0001")
    worker = launch(empty_database_url, redis_url, env={"PATTERN_STORAGE_MAX_ATTEMPTS": "1000"})
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.insert(make_pattern())
        wait_until(lambda: job.status() == "RETRY", "the job is retried")
        wait_until(lambda: "schema_mismatch" in worker.logs(), "the log says why")
        schema.upgrade(empty_database_url)
        assert job.result(DEADLINE).success
