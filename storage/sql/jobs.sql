-- Jobs for operators: what the ledger, dead letters, attempts, outbox and history of imports say; see storage/jobs.py.
-- Each list has the same columns and is read in pages. An error with a NUL cannot be read out of its JSON.

-- name: list_ended_jobs
-- Jobs that have ended, a page in the order of one index.
SELECT correlation_id, operation, pattern_name, state, error_type,
       CASE WHEN state <> 'SUCCESS' AND strpos(result::text, '\u0000') = 0
            THEN left(result ->> 'error', 2000) END AS error,
       coalesce(attempts, 1)::integer AS attempts, queue, worker, sent_at, duration_ms::double precision AS duration_ms,
       finished_at AS at
FROM job_ledger
WHERE {filters}
ORDER BY {order} {direction}, correlation_id {direction}
FETCH FIRST %(limit)s ROWS ONLY

-- name: count_ended_jobs
-- How many there are, counted up to a limit.
SELECT count(*) FROM (SELECT FROM job_ledger WHERE {filters} FETCH FIRST %(limit)s ROWS ONLY) AS found

-- name: job_is_described
state IS NOT NULL
-- name: job_has_state
state = %(state)s
-- name: job_has_operation
operation = %(operation)s
-- name: job_has_error_type
error_type = %(error_type)s
-- name: job_has_pattern_name
hashtext(pattern_name) = hashtext(%(pattern_name)s) AND pattern_name = %(pattern_name)s
-- name: job_has_queue
queue = %(queue)s
-- name: job_has_id
correlation_id = %(correlation_id)s
-- name: job_is_since
finished_at >= %(since)s
-- name: job_is_until
finished_at < %(until)s
-- name: job_has_duration
duration_ms IS NOT NULL
-- name: job_is_slow
-- What the index of slow jobs has.
duration_ms >= 100
-- name: job_is_before_time
(finished_at, correlation_id) < (%(cursor_at)s, %(cursor_id)s)
-- name: job_is_after_time
(finished_at, correlation_id) > (%(cursor_at)s, %(cursor_id)s)
-- name: job_is_before_duration
(duration_ms, correlation_id) < (%(cursor_duration)s::real, %(cursor_id)s)
-- name: job_is_after_duration
(duration_ms, correlation_id) > (%(cursor_duration)s::real, %(cursor_id)s)

-- name: list_open_jobs
-- Jobs of one table that have not ended. They are few: what waits in the broker is in none of our tables.
SELECT * FROM ({source}) AS job
WHERE (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(operation)s::text IS NULL OR operation = %(operation)s)
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
  AND (%(pattern_name)s::text IS NULL OR pattern_name = %(pattern_name)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(correlation_id)s::uuid IS NULL OR correlation_id = %(correlation_id)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(cursor_at)s::timestamptz IS NULL
       OR (%(descending)s AND (at, correlation_id) < (%(cursor_at)s, %(cursor_id)s::uuid))
       OR (NOT %(descending)s AND (at, correlation_id) > (%(cursor_at)s, %(cursor_id)s::uuid)))
ORDER BY at {direction}, correlation_id {direction}
FETCH FIRST %(limit)s ROWS ONLY

-- name: count_open_jobs
-- How many there are, counted up to a limit.
SELECT count(*) FROM (
    SELECT FROM ({source}) AS job
    WHERE (%(state)s::text IS NULL OR state = %(state)s)
      AND (%(operation)s::text IS NULL OR operation = %(operation)s)
      AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
      AND (%(pattern_name)s::text IS NULL OR pattern_name = %(pattern_name)s)
      AND (%(queue)s::text IS NULL OR queue = %(queue)s)
      AND (%(correlation_id)s::uuid IS NULL OR correlation_id = %(correlation_id)s)
      AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
    FETCH FIRST %(limit)s ROWS ONLY
) AS found

-- name: source_dead
-- Dead letters. Not NOT EXISTS: PostgreSQL would join both tables as a whole for the sake of one page.
SELECT correlation_id, operation, pattern_name, 'DEAD'::text AS state, error_type, left(error, 2000) AS error, attempts,
       queue, NULL::text AS worker, NULL::timestamptz AS sent_at, NULL::double precision AS duration_ms, died_at AS at
FROM dead_letters
WHERE (SELECT true FROM job_ledger WHERE job_ledger.correlation_id = dead_letters.correlation_id) IS NULL

-- name: source_retry
-- Jobs that began more than once and have not ended; some of them are executed at this moment.
SELECT correlation_id, operation, pattern_name, 'RETRY'::text AS state, errors -> -1 ->> 'error_type' AS error_type,
       errors -> -1 ->> 'error' AS error, greatest(deliveries, jsonb_array_length(coalesce(errors, '[]'))) AS attempts,
       queue, errors -> -1 ->> 'worker' AS worker, NULL::timestamptz AS sent_at,
       NULL::double precision AS duration_ms, first_at AS at
FROM job_attempts

-- name: source_outbox
-- Jobs that applications wrote in their own transactions, published or not.
SELECT correlation_id, left(readable.contract ->> 'operation', 30) AS operation,
       left(readable.contract #>> '{data,pattern_name}', 1000) AS pattern_name, 'QUEUED'::text AS state,
       NULL::text AS error_type, NULL::text AS error, 0 AS attempts, NULL::text AS queue, NULL::text AS worker,
       created_at AS sent_at, NULL::double precision AS duration_ms, created_at AS at
FROM outbox,
     LATERAL (SELECT CASE WHEN strpos(outbox.contract::text, '\u0000') = 0 THEN outbox.contract END AS contract
              OFFSET 0) AS readable

-- name: source_imports
-- Runs of imports that have not ended.
SELECT run_id AS correlation_id, 'import'::text AS operation, name AS pattern_name,
       CASE state WHEN 'running' THEN 'STARTED' ELSE 'QUEUED' END AS state, error_type, error, attempts,
       'imports'::text AS queue, NULL::text AS worker, queued_at AS sent_at, NULL::double precision AS duration_ms,
       coalesce(started_at, queued_at) AS at
FROM import_runs
WHERE finished_at IS NULL

-- name: find_ended_job
-- What the ledger alone knows of a job. A batch's result has thousands of ids: only what is one is read.
SELECT errors, contract IS NOT NULL AS has_contract,
       CASE WHEN strpos(result::text, '\u0000') = 0 THEN result #>> '{data,pattern_id}' END AS pattern_id
FROM job_ledger
WHERE correlation_id = %(correlation_id)s

-- name: find_attempt_errors
-- Errors of the attempts of a job that has not ended, or is a dead letter.
SELECT errors FROM job_attempts WHERE correlation_id = %(correlation_id)s
UNION ALL
SELECT errors FROM dead_letters WHERE correlation_id = %(correlation_id)s

-- name: find_retries
-- Which job an operator sent this one again for, and which were sent again for this one.
SELECT correlation_id, retried_from, created_at FROM job_retries
WHERE correlation_id = %(correlation_id)s OR retried_from = %(correlation_id)s
ORDER BY created_at
FETCH FIRST 100 ROWS ONLY

-- name: retriable_contracts
-- Contracts of jobs that failed or were cancelled, null for one of which nobody kept it.
SELECT correlation_id, contract::text FROM job_ledger
WHERE correlation_id = ANY (%(ids)s) AND state <> 'SUCCESS'

-- name: already_retried
-- Which of these jobs were sent again before.
SELECT retried_from FROM job_retries WHERE retried_from = ANY (%(ids)s)

-- name: add_retry
-- Remember for which job this one was sent again.
INSERT INTO job_retries (correlation_id, retried_from) VALUES (%(correlation_id)s, %(retried_from)s)

-- name: purge_retries
-- Forget links between jobs that the ledger has forgotten, a step at a time.
DELETE FROM job_retries
WHERE correlation_id IN (
    SELECT correlation_id FROM job_retries
    WHERE created_at < now() - make_interval(days => %(days)s)
    FETCH FIRST %(step)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
)
