"""Rows of each table for `bench.growth`, made by the server: statements by table, from `start` to `rows`."""

FILL = {
    "pattern_templates": """
        INSERT INTO pattern_templates (pattern_name, pattern_type, language, category, template_code, tags, context,
            created_at)
        SELECT md5(n::text) || '.' || md5(n::text || 'x'), 'function', 'python', 'category ' || n % 200,
            repeat(md5(n::text), 10), ARRAY['tag ' || n % 400], jsonb_build_object('module', 'm' || n % 300, 'line', n),
            now() - ({rows} - n) * interval '1 second'
        FROM generate_series({start} + 1, {rows}) AS n""",
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
