-- Jobs for operators: what the ledger, dead letters, attempts, outbox and history of imports say; see storage/jobs.py.
-- Each list has the same columns and is read in pages. An error with a NUL cannot be read out of its JSON.

-- name: ended_job
-- What a list shows of a job that has ended.
correlation_id, operation, pattern_name, state, error_type,
CASE WHEN state <> 'SUCCESS' AND strpos(result::text, '\u0000') = 0 THEN left(result ->> 'error', 2000) END AS error,
coalesce(attempts, 1)::integer AS attempts, queue, worker, sent_at, duration_ms::double precision AS duration_ms,
finished_at AS at

-- name: list_ended_jobs
-- Jobs that have ended, a page in the order of one index.
SELECT {{ended_job}}
FROM job_ledger
WHERE {filters}
ORDER BY {order} {direction}, correlation_id {direction}
FETCH FIRST %(limit)s ROWS ONLY

-- name: list_quick_jobs
-- The last so many jobs that have ended, in the order of their durations: no index has those of quick ones.
SELECT {{ended_job}}
FROM (SELECT * FROM job_ledger WHERE {filters} ORDER BY finished_at DESC FETCH FIRST %(last)s ROWS ONLY) AS last
WHERE {beyond}
ORDER BY last.duration_ms {direction}, correlation_id {direction}
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
-- name: job_can_be_retried
-- What it asked for is known, and it was not sent again before.
contract IS NOT NULL AND operation IS DISTINCT FROM 'query'
AND (SELECT true FROM job_retries WHERE retried_from = job_ledger.correlation_id AND correlation_id <> retried_from
     FETCH FIRST ROW ONLY) IS NULL
-- name: job_is_beyond_time
(finished_at, correlation_id) {beyond} (%(cursor_at)s, %(cursor_id)s)
-- name: job_is_beyond_duration
(duration_ms, correlation_id) {beyond} (%(cursor_duration)s::real, %(cursor_id)s)

-- name: job_in_reach
-- Times, id, and what follows a cursor: what the indexes of the tables of open jobs have.
(%(correlation_id)s::uuid IS NULL OR correlation_id = %(correlation_id)s)
AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
AND (%(cursor_at)s::timestamptz IS NULL OR (at, correlation_id) {beyond} (%(cursor_at)s, %(cursor_id)s::uuid))

-- name: open_job_matches
-- Each filter that is asked for, up to the end of the search.
{{job_in_reach}}
AND (%(end_at)s::timestamptz IS NULL OR (at, correlation_id) {until} (%(end_at)s, %(end_id)s::uuid))
AND (%(state)s::text IS NULL OR state = %(state)s)
AND (%(operation)s::text IS NULL OR operation = %(operation)s)
AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
AND (%(pattern_name)s::text IS NULL OR pattern_name = %(pattern_name)s)
AND (%(queue)s::text IS NULL OR queue = %(queue)s)

-- name: end_of_search
-- The last row that a search of one table looks at, if there are so many.
SELECT at, correlation_id FROM (SELECT {time} AS at, correlation_id FROM {table}) AS job
WHERE {{job_in_reach}}
ORDER BY at {direction}, correlation_id {direction}
OFFSET %(searched)s
FETCH FIRST ROW ONLY

-- name: list_open_jobs
-- Jobs of one table that have not ended. What waits in the broker is in none of our tables.
SELECT * FROM ({source}) AS job
WHERE {{open_job_matches}}
ORDER BY at {direction}, correlation_id {direction}
FETCH FIRST %(limit)s ROWS ONLY

-- name: count_open_jobs
-- How many there are, counted up to a limit.
SELECT count(*) FROM (
    SELECT FROM ({source}) AS job
    WHERE {{open_job_matches}}
    FETCH FIRST %(limit)s ROWS ONLY
) AS found

-- name: source_dead
-- Dead letters.
SELECT correlation_id, operation, pattern_name, 'DEAD'::text AS state, error_type, left(error, 2000) AS error, attempts,
       queue, NULL::text AS worker, NULL::timestamptz AS sent_at, NULL::double precision AS duration_ms, died_at AS at
FROM dead_letters
WHERE {{letter_is_open}}

-- name: source_retry
-- Jobs that began more than once and have not ended; some of them are executed at this moment. A dead letter that is
-- replayed is listed as that, and of a job that has ended the copy may be left that was counted at that moment.
-- coalesce: for NOT EXISTS PostgreSQL joins whole tables for the sake of one page, and IS NULL it expects of so few rows
-- that it reads them all and sorts them.
SELECT correlation_id, operation, pattern_name, 'RETRY'::text AS state, errors -> -1 ->> 'error_type' AS error_type,
       errors -> -1 ->> 'error' AS error, greatest(deliveries, jsonb_array_length(coalesce(errors, '[]'))) AS attempts,
       queue, errors -> -1 ->> 'worker' AS worker, NULL::timestamptz AS sent_at,
       NULL::double precision AS duration_ms, first_at AS at
FROM job_attempts
WHERE coalesce((SELECT false FROM dead_letters WHERE correlation_id = job_attempts.correlation_id), true)
  AND coalesce((SELECT false FROM job_ledger WHERE correlation_id = job_attempts.correlation_id), true)

-- name: source_outbox
-- Jobs that applications wrote in their own transactions, published or not, and that no worker has had more than once.
-- The contract is read in expressions and not in a join, so that PostgreSQL asks the other tables only about rows that
-- the filter lets through.
SELECT correlation_id, left({{outbox_contract}} ->> 'operation', 30) AS operation,
       left({{outbox_contract}} #>> '{data,pattern_name}', 1000) AS pattern_name, 'QUEUED'::text AS state,
       NULL::text AS error_type, NULL::text AS error, 0 AS attempts, NULL::text AS queue, NULL::text AS worker,
       created_at AS sent_at, NULL::double precision AS duration_ms, created_at AS at
FROM outbox
WHERE coalesce((SELECT false FROM job_attempts WHERE correlation_id = outbox.correlation_id), true)
  AND coalesce((SELECT false FROM dead_letters WHERE correlation_id = outbox.correlation_id), true)

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
SELECT errors, claimed_at, contract IS NOT NULL AS has_contract,
       CASE WHEN strpos(result::text, '\u0000') = 0
            THEN coalesce(result #>> '{data,pattern_id}', result #>> '{data,pattern_ids,0}') END AS pattern_id
FROM job_ledger
WHERE correlation_id = %(correlation_id)s

-- name: find_attempt_errors
-- Errors of the attempts of a job that has not ended, or is a dead letter.
SELECT errors FROM job_attempts WHERE correlation_id = %(correlation_id)s
UNION ALL
SELECT errors FROM dead_letters WHERE correlation_id = %(correlation_id)s

-- name: find_retries
-- Which job an operator sent this one again for, and which were sent again for this one. A dead letter that was
-- replayed was sent again for itself, and has what came before.
SELECT correlation_id, retried_from, created_at, errors FROM job_retries
WHERE correlation_id = %(correlation_id)s OR retried_from = %(correlation_id)s
ORDER BY created_at
FETCH FIRST 100 ROWS ONLY

-- name: retriable_contracts
-- Contracts of jobs that failed or were cancelled, null for one whose contract was not kept. The rows are locked: of two
-- operators who send a job again at the same time, the second waits, and finds the link of the first.
SELECT correlation_id, contract::text FROM job_ledger
WHERE correlation_id = ANY (%(ids)s) AND state <> 'SUCCESS'
ORDER BY correlation_id
FOR NO KEY UPDATE

-- name: already_retried
-- Which of these jobs were sent again before.
SELECT retried_from FROM job_retries WHERE retried_from = ANY (%(ids)s) AND correlation_id <> retried_from

-- name: add_retry
-- Remember for which job this one was sent again.
INSERT INTO job_retries (correlation_id, retried_from) VALUES (%(correlation_id)s, %(retried_from)s)

-- name: purge_retries
-- Forget links between jobs that the ledger has forgotten, a step at a time. By their place in the table: they are
-- locked, and cannot move.
DELETE FROM job_retries
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM job_retries
    WHERE created_at < now() - make_interval(days => %(days)s)
    FETCH FIRST %(step)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
))

-- name: job_labels
-- What jobs are about, by their ids. A pattern that is gone has no name but what the job itself knows; of a job that
-- waits in the outbox a first publication that is still to come is when it begins.
WITH written AS (
    SELECT correlation_id, operation, pattern_name,
           CASE WHEN strpos(contract::text, '\u0000') = 0 THEN contract END AS contract,
           CASE WHEN strpos(result::text, '\u0000') = 0 THEN result END AS result, NULL::timestamptz AS due
    FROM job_ledger WHERE correlation_id = ANY (%(ids)s)
    UNION ALL
    SELECT correlation_id, operation, pattern_name, CASE WHEN strpos(contract::text, '\u0000') = 0 THEN contract END,
           NULL, NULL
    FROM dead_letters WHERE correlation_id = ANY (%(ids)s)
    UNION ALL
    SELECT correlation_id, NULL, NULL, CASE WHEN strpos(contract::text, '\u0000') = 0 THEN contract END, NULL,
           CASE WHEN published = 0 AND publish_after > clock_timestamp() THEN publish_after END
    FROM outbox WHERE correlation_id = ANY (%(ids)s)
    UNION ALL
    SELECT run_id, 'import', name, NULL, NULL, NULL
    FROM import_runs WHERE run_id = ANY (%(ids)s)
), asked AS (
    SELECT correlation_id, due, pattern_name,
           coalesce(operation, left(contract ->> 'operation', 30)) AS operation,
           coalesce(result #>> '{data,pattern_id}', contract ->> 'pattern_id') AS pattern_id,
           contract, result
    FROM written
), known AS (
    SELECT correlation_id, due, operation, pattern_id,
           CASE WHEN operation = 'batch_insert' THEN
               coalesce(result #>> '{data,pattern_names,0}', contract #>> '{patterns,0,pattern_name}')
           ELSE coalesce(pattern_name, contract #>> '{data,pattern_name}') END AS pattern_name,
           CASE WHEN operation = 'batch_insert' THEN
               coalesce(CASE WHEN result #>> '{data,count}' ~ '^\d{1,9}$' THEN result #>> '{data,count}' END::integer,
                        CASE WHEN json_typeof(contract -> 'patterns') = 'array'
                             THEN json_array_length(contract -> 'patterns') END)
           END AS patterns
    FROM asked
)
SELECT DISTINCT ON (known.correlation_id) known.correlation_id, operation,
       left(coalesce(known.pattern_name, pattern_templates.pattern_name), 1000) AS pattern_name,
       left(pattern_id, 36) AS pattern_id, patterns, due
FROM known
LEFT JOIN pattern_templates
    ON pattern_templates.id = CASE WHEN pattern_id ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
                                   THEN pattern_id::uuid END
ORDER BY known.correlation_id, known.pattern_name IS NULL

-- name: pattern_names
-- The names of patterns that are there, by their ids.
SELECT id, pattern_name FROM pattern_templates WHERE id = ANY (%(ids)s)

-- name: jobs_of_range
-- Jobs of a range of ids, which is what the beginning of an id stands for. By the primary keys.
(SELECT correlation_id FROM job_ledger WHERE correlation_id BETWEEN %(first)s AND %(last)s FETCH FIRST 2 ROWS ONLY)
UNION
(SELECT correlation_id FROM outbox WHERE correlation_id BETWEEN %(first)s AND %(last)s FETCH FIRST 2 ROWS ONLY)
UNION
(SELECT correlation_id FROM dead_letters WHERE correlation_id BETWEEN %(first)s AND %(last)s FETCH FIRST 2 ROWS ONLY)
UNION
(SELECT correlation_id FROM job_attempts WHERE correlation_id BETWEEN %(first)s AND %(last)s FETCH FIRST 2 ROWS ONLY)
UNION
(SELECT run_id FROM import_runs WHERE run_id BETWEEN %(first)s AND %(last)s FETCH FIRST 2 ROWS ONLY)
FETCH FIRST 2 ROWS ONLY
