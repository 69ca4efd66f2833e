"""Ledger, outbox, dead letters and history: each statement reads about as many rows as it is about, of 20,000.

`make test-plans` asks the same of 1,000,000 rows in each table.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Json, Jsonb

from bench.growth_rows import FILL
from pattern_storage.storage.dead_letters import EVERY
from pattern_storage.storage.sql import block
from tests.fix_query_plans import ROWS

STEP = 100
ABSENT = UUID(int=0)
EVERYTHING: dict[str, Any] = vars(EVERY) | {"after": None, "after_id": None, "limit": STEP}
LATER = {"after": datetime(2026, 1, 1, tzinfo=UTC), "after_id": ABSENT}
RECORDED: dict[str, Any] = dict.fromkeys(
    ("fingerprint", "pattern_name", "error_type", "queue", "worker", "sent_at", "claimed_at", "duration_ms", "contract")
) | {"correlation_id": ABSENT, "result": Json({}), "state": "SUCCESS", "operation": "insert"}


def cancelled(jobs: int) -> dict[str, Any]:
    """Values that cancel so many jobs, none of which any table knows."""
    unknown = ("operations", "pattern_names", "queues", "sent_at", "contracts")
    ids = [UUID(int=number) for number in range(jobs)]
    return dict.fromkeys(unknown, [None] * jobs) | {"ids": ids, "results": [Json({})] * jobs, "error": "cancelled"}


#: Block, values, and rows that it may read.
STATEMENTS: list[tuple[str, dict[str, Any], int]] = [
    ("purge_ledger", {"days": 30, "step": STEP}, 3 * STEP),
    # None is old enough.
    ("purge_attempts", {"days": 30}, 0),
    ("purge_retries", {"days": 30, "step": STEP}, 0),
    ("find_job", {"correlation_id": ABSENT}, 1),
    ("job_states", {"ids": [UUID(int=number) for number in range(20)]}, 1),
    ("record_job", RECORDED, 1),
    ("cancel_jobs", cancelled(1), 4),
    # Of more jobs PostgreSQL may read a table as a whole that is still small; with 1,000,000 rows in each it looks up
    # 1,000 jobs by their keys as well.
    ("cancel_jobs", cancelled(20), 4),
    ("next_publication", {}, 1),
    ("claim_jobs", {"limit": STEP, "size": 1_000_000}, STEP),
    ("page_dead_letters", EVERYTHING, 2 * STEP + 2),
    ("page_dead_letters", EVERYTHING | LATER, 2 * STEP + 2),
    ("page_dead_letters", EVERYTHING | {"ids": [ABSENT]}, 2),
    ("fetch_dead_letters", {"ids": None, "limit": STEP}, 2 * STEP + 2),
    # Of twenty imports that ran in turn: runs of the others are not passed by.
    ("purge_runs", {"days": 0, "step": STEP}, 3 * STEP + 20),
    ("list_runs_of", {"name": "import 7", "limit": STEP}, STEP + 2),
    ("list_runs", {"limit": STEP}, STEP + 2),
    ("last_version", {"name": "import 7", "plan": Jsonb({"source": "x"})}, 2),
    ("last_runs", {"names": ["import 7", "import 8"]}, 2),
]  # fmt: skip


@pytest.fixture(scope="module")
def full(shared_database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to full tables, their statistics fresh; nothing is to stay."""
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        for table, statement in FILL.items():
            if table != "pattern_templates":
                connection.execute(statement.format(start=0, rows=ROWS).encode())
        connection.execute("VACUUM ANALYZE")
        yield connection


def read(plan: dict[str, Any]) -> Iterator[int]:
    """The rows that each scan of an executed plan looked at, those it threw away included."""
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        yield round(sum(plan.get(key, 0) for key in counted) * plan["Actual Loops"])
    for child in plan.get("Plans", ()):
        yield from read(child)


@pytest.mark.parametrize(("name", "values", "most"), STATEMENTS)
def test_a_statement_reads_what_it_is_about(
    full: psycopg.Connection, name: str, values: dict[str, Any], most: int
) -> None:
    with full.transaction(force_rollback=True):
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {block(name)}"
        [(plans,)] = full.execute(explain.encode(), values, prepare=False).fetchall()
    assert sum(read(plans[0]["Plan"])) <= most, plans


def test_a_missing_index_would_be_seen(full: psycopg.Connection) -> None:
    with full.transaction(force_rollback=True):
        full.execute("DROP INDEX dead_letters_died_at")
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {block('page_dead_letters')}"
        [(plans,)] = full.execute(explain.encode(), EVERYTHING, prepare=False).fetchall()
    assert sum(read(plans[0]["Plan"])) >= ROWS
