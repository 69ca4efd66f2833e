"""Rows of each table for `bench.growth`, made by the server: statements by table, from `start` to `rows`.

Patterns are those of the standard library, again and again under other names: letters of names that people choose are
not spread as those of random ones are, and the index of their trigrams is the dearest of the table. A prime number of
them is passed over each time, so that a few rows are of all modules too.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import psycopg

from pattern_storage.extract import harvest, standard_library

FILL = {
    "pattern_templates": """
        INSERT INTO pattern_templates (pattern_name, pattern_type, language, category, template_code, source,
            complexity_score, tags, context, created_at)
        SELECT left(one.pattern_name, 200) || ' ' || n, one.pattern_type, one.language, one.category,
            one.template_code, one.source, one.complexity_score, one.tags, one.context,
            now() - ({rows} - n) * interval '1 second'
        FROM generate_series({start} + 1, {rows}) AS n
            JOIN harvested ON number = n::bigint * 7919 % (SELECT count(*) FROM harvested),
            jsonb_populate_record(NULL::pattern_templates, pattern) AS one
        ORDER BY n""",
    "job_ledger": """
        INSERT INTO job_ledger (correlation_id, fingerprint, result, finished_at, state, operation, pattern_name,
            error_type, queue, worker, attempts, sent_at, duration_ms)
        SELECT gen_random_uuid(), sha256(n::text::bytea),
            json_build_object('success', NOT failed, 'error', null, 'data', repeat('x', 200)),
            at, CASE WHEN failed THEN 'FAILURE' ELSE 'SUCCESS' END, 'insert', md5(n::text),
            CASE WHEN failed THEN 'unique_violation' END, 'storage', 'celery@a', 1, at, 1 + n % 50
        FROM generate_series({start} + 1, {rows}) AS n,
            LATERAL (SELECT n % 100 = 0 AS failed,
                now() - interval '60 days' + n * interval '60 days' / {rows} AS at) AS t""",
    "outbox": """
        INSERT INTO outbox (correlation_id, contract, publish_after, published)
        SELECT gen_random_uuid(), json_build_object('operation', 'delete', 'pattern_id', gen_random_uuid()),
            now() + interval '1 day' + n * interval '1 second', 1
        FROM generate_series({start} + 1, {rows}) AS n""",
    "dead_letters": """
        INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, died_at)
        SELECT gen_random_uuid(), json_build_object('operation', 'delete', 'pattern_id', gen_random_uuid()),
            'connection_lost', repeat('x', 100), 5, now(), now() - n * interval '1 second'
        FROM generate_series({start} + 1, {rows}) AS n""",
    "import_runs": """
        INSERT INTO import_runs (run_id, name, due, plan, state, queued_at, started_at, finished_at, source_version)
        SELECT gen_random_uuid(), 'import ' || n % 20, at, '{{"source": "x"}}',
            CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'unchanged' END, at, at, at, 'v1'
        FROM generate_series({start} + 1, {rows}) AS n, LATERAL (SELECT now() - n * interval '1 minute' AS at) AS t""",
    "job_attempts": """
        INSERT INTO job_attempts (correlation_id, first_at)
        SELECT gen_random_uuid(), now() - n * interval '1 millisecond'
        FROM generate_series({start} + 1, {rows}) AS n""",
    "job_retries": """
        INSERT INTO job_retries (correlation_id, retried_from)
        SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series({start} + 1, {rows})""",
}


@cache
def harvested() -> list[dict[str, Any]]:
    """Return the patterns of the standard library, in the order of its files."""
    return list(harvest(standard_library()))


def fill(connection: psycopg.Connection, rows: int) -> None:
    """Make so many rows in every table."""
    with connection.transaction():
        # It would merge pending entries of the trigram index for some inserts and not for others.
        connection.execute("ALTER TABLE pattern_templates SET (autovacuum_enabled = off)")
        connection.execute("CREATE TEMPORARY TABLE harvested (number int, pattern jsonb) ON COMMIT DROP")
        with connection.cursor() as cursor, cursor.copy("COPY harvested FROM STDIN") as copy:
            for row in enumerate(map(json.dumps, harvested())):
                copy.write_row(row)
        connection.execute("ANALYZE harvested")
        for statement in FILL.values():
            connection.execute(statement.format(rows=rows, start=0).encode())
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")


@asynccontextmanager
async def remove_new(connection: psycopg.AsyncConnection) -> AsyncIterator[None]:
    """Remove the patterns and jobs that come meanwhile: a table of 1,000 rows stays one."""
    [begun] = await (await connection.execute("SELECT clock_timestamp()")).fetchone() or ()
    yield
    await connection.execute("DELETE FROM pattern_templates WHERE created_at >= %s", [begun])
    await connection.execute("DELETE FROM job_ledger WHERE finished_at >= %s", [begun])
    await connection.execute("VACUUM ANALYZE")
