-- The statements that make a job happen once; see storage/ledger.py.

-- name: record_job
-- Record a finished job, and clear what was kept while it was not. Fails if the job is in the ledger already. All that
-- end a job write the ledger before any other table: two that end the same job wait there, and never deadlock. After it
-- come attempts, dead letter and outbox, as in add_dead_letter: PostgreSQL executes these from the last to the first.
WITH published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s),
     delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s)
INSERT INTO job_ledger (correlation_id, fingerprint, result, finished_at, state, operation, pattern_name, error_type,
                        queue, worker, sent_at, claimed_at, duration_ms, contract, attempts, errors)
SELECT %(correlation_id)s, %(fingerprint)s, %(result)s, clock_timestamp(), %(state)s, %(operation)s, %(pattern_name)s,
       %(error_type)s, %(queue)s, %(worker)s, to_timestamp(%(sent_at)s), to_timestamp(%(claimed_at)s), %(duration_ms)s,
       %(contract)s, coalesce(deliveries, 0) + 1, errors
FROM (SELECT) AS job LEFT JOIN job_attempts ON correlation_id = %(correlation_id)s

-- name: record_effect
-- Make one effect of a group, which ends with written (id, data, present), and record its jobs, as record_job does. Their
-- results are built here, so that COMMIT can be sent together with this: a job whose pattern was not written has its
-- `error`, or its `conflict` if the pattern is there and was last updated at another time, `present`. Fails if one of the
-- jobs is in the ledger already.
{effect}, outcome AS (
    SELECT job.*, data, present, data IS NOT NULL AS done,
           round(extract(epoch FROM clock_timestamp() - now()) * 1000, 3) AS milliseconds,
           CASE WHEN data IS NOT NULL THEN NULL WHEN present IS NULL THEN error
                ELSE replace(conflict, '?', present) END AS failure,
           CASE WHEN data IS NOT NULL THEN NULL WHEN present IS NULL THEN error_type
                ELSE 'version_conflict' END AS failure_type
    FROM json_to_recordset($1::json) AS job (
        correlation_id uuid, operation text, fingerprint text, older text, pattern_id uuid, pattern_name text,
        error text, error_type text, conflict text, contract json, queue text, worker text, sent_at double precision,
        claimed_at double precision)
    LEFT JOIN written ON written.id = pattern_id
)
INSERT INTO job_ledger (correlation_id, fingerprint, result, finished_at, state, operation, pattern_name, error_type,
                        queue, worker, sent_at, claimed_at, duration_ms, contract, attempts)
SELECT correlation_id, decode(fingerprint, 'hex'),
       json_build_object('success', done, 'data', data, 'error', failure, 'metadata', json_strip_nulls(json_build_object(
           'correlation_id', correlation_id, 'operation', operation, 'duration_ms', milliseconds,
           'error_type', failure_type, 'present_updated_at', CASE WHEN NOT done THEN present END,
           'request', coalesce(older, fingerprint),
           'canonical_request', CASE WHEN older IS NOT NULL THEN fingerprint END))),
       clock_timestamp(), CASE WHEN done THEN 'SUCCESS' ELSE 'FAILURE' END, operation,
       coalesce(pattern_name, data ->> 'pattern_name'), failure_type, queue, worker, to_timestamp(sent_at),
       to_timestamp(claimed_at), milliseconds, CASE WHEN NOT done THEN {contract} END, 1
FROM outcome
RETURNING correlation_id, result, state

-- name: contract_of_job
-- The contract of a job of a group that failed.
contract

-- name: contract_of_insert
-- The same: the contract comes without its data, which are the columns of the pattern ($2, in the order of $3).
(left(contract::text, -1) || ',"data":' || ($2::json -> (array_position($3::uuid[], pattern_id) - 1))::text || '}}')::json

-- name: clear_group
-- Remove what was kept of the jobs of a group while they were not finished, in the order of record_job, and add to their
-- new rows which attempts there were.
WITH published AS (DELETE FROM outbox WHERE correlation_id = ANY ($1::uuid[])),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = ANY ($1::uuid[])),
     delivered AS (DELETE FROM job_attempts WHERE correlation_id = ANY ($1::uuid[])
                   RETURNING correlation_id, deliveries, errors)
UPDATE job_ledger AS ended SET attempts = delivered.deliveries + 1, errors = delivered.errors
FROM delivered WHERE ended.correlation_id = delivered.correlation_id

-- name: clear_job
-- Remove what was kept of a job that ends without a new row while it was not finished.
WITH published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s)
DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s

-- name: describe_ledger
-- Fill the columns to list jobs by, of rows that a release before them has written, a step at a time. A text with a NUL
-- cannot be read out of its JSON.
WITH undescribed AS (
    SELECT correlation_id FROM job_ledger WHERE state IS NULL
    ORDER BY finished_at FETCH FIRST %(step)s ROWS ONLY FOR UPDATE SKIP LOCKED
), read AS (
    SELECT correlation_id,
           CASE WHEN strpos(result::text, '\u0000') = 0 THEN result ELSE '{}'::json END AS result
    FROM undescribed JOIN job_ledger USING (correlation_id)
)
UPDATE job_ledger
SET state = CASE WHEN read.result ->> 'success' = 'true' THEN 'SUCCESS'
                 WHEN read.result #>> '{metadata,error_type}' = 'revoked' THEN 'REVOKED' ELSE 'FAILURE' END,
    operation = read.result #>> '{metadata,operation}',
    pattern_name = left(coalesce(read.result #>> '{data,pattern_name}', read.result #>> '{data,name}'), 1000),
    error_type = read.result #>> '{metadata,error_type}',
    duration_ms = CASE WHEN json_typeof(read.result #> '{metadata,duration_ms}') = 'number'
                       THEN (read.result #>> '{metadata,duration_ms}')::real END
FROM read
WHERE job_ledger.correlation_id = read.correlation_id

-- name: find_finished_of_group
-- Which jobs of a group the ledger has.
SELECT correlation_id FROM job_ledger WHERE correlation_id = ANY ($1::uuid[])

-- name: cancel_jobs
-- Take the places of jobs in the ledger before the jobs do; the ids that were free come back. Each is described by the
-- first table that knows it, else as given. An import's run ends in its history as well, which remembers longer.
WITH taken AS (
    INSERT INTO job_ledger (correlation_id, result, state, error_type, operation, pattern_name, queue, errors, attempts,
                            sent_at, contract)
    SELECT correlation_id, job.result, 'REVOKED', 'revoked',
           coalesce(CASE WHEN run_id IS NOT NULL THEN 'import' END, dead.operation, attempt.operation,
                    left(readable.contract ->> 'operation', 30), job.operation),
           coalesce(run.name, dead.pattern_name, attempt.pattern_name,
                    left(readable.contract #>> '{data,pattern_name}', 1000), job.pattern_name),
           coalesce(CASE WHEN run_id IS NOT NULL THEN 'imports' END, dead.queue, attempt.queue, job.queue),
           coalesce(dead.errors, attempt.errors), coalesce(dead.attempts, attempt.deliveries),
           coalesce(outbox.created_at, to_timestamp(job.sent_at)),
           coalesce(dead.contract, outbox.contract, job.contract)
    FROM unnest(%(ids)s::uuid[], %(results)s::json[], %(operations)s::text[], %(pattern_names)s::text[],
                %(queues)s::text[], %(sent_at)s::float8[], %(contracts)s::json[])
         AS job (correlation_id, result, operation, pattern_name, queue, sent_at, contract)
    LEFT JOIN import_runs AS run ON run_id = correlation_id AND run.finished_at IS NULL
    LEFT JOIN dead_letters AS dead USING (correlation_id)
    LEFT JOIN job_attempts AS attempt USING (correlation_id)
    LEFT JOIN outbox USING (correlation_id)
    LEFT JOIN LATERAL {{readable_contract}} ON true
    ORDER BY correlation_id
    ON CONFLICT (correlation_id) DO NOTHING
    RETURNING correlation_id
), published AS (DELETE FROM outbox WHERE correlation_id IN (SELECT correlation_id FROM taken)),
   dead AS (DELETE FROM dead_letters WHERE correlation_id IN (SELECT correlation_id FROM taken)),
   delivered AS (DELETE FROM job_attempts WHERE correlation_id IN (SELECT correlation_id FROM taken)),
   ended AS (UPDATE import_runs
             SET state = 'cancelled', finished_at = clock_timestamp(), error_type = 'revoked', error = %(error)s
             WHERE run_id IN (SELECT correlation_id FROM taken) AND finished_at IS NULL)
SELECT correlation_id FROM taken

-- name: blocked_ids
-- Of these ids, those that are cancelled without a job: no table knew one, and no message of one was found.
SELECT correlation_id FROM job_ledger
WHERE correlation_id = ANY (%(ids)s) AND state = 'REVOKED'
  AND operation IS NULL AND queue IS NULL AND attempts IS NULL AND sent_at IS NULL

-- name: known_ids
-- Of these ids, those of which a table knows a job that has not ended, or was cancelled: cancel_jobs would not block them.
SELECT job.id
FROM unnest(%(ids)s::uuid[]) AS job (id)
WHERE EXISTS (SELECT FROM outbox WHERE correlation_id = job.id)
   OR EXISTS (SELECT FROM dead_letters WHERE correlation_id = job.id)
   OR EXISTS (SELECT FROM job_attempts WHERE correlation_id = job.id)
   OR EXISTS (SELECT FROM import_runs WHERE run_id = job.id AND finished_at IS NULL)
   OR EXISTS (SELECT FROM job_ledger WHERE correlation_id = job.id AND state = 'REVOKED'
              AND num_nonnulls(operation, queue, attempts, sent_at) > 0)

-- name: find_job
-- What the ledger says of a job.
SELECT fingerprint, result FROM job_ledger WHERE correlation_id = %(correlation_id)s

-- name: job_states
-- What PostgreSQL knows of jobs: the result, the dead letter, or that one waits in the outbox. An application may have
-- written a NUL into the contract of a dead letter, which cannot be read out of its JSON.
SELECT job.id,
       (SELECT result FROM job_ledger WHERE correlation_id = job.id),
       (SELECT json_build_object(
            'operation', CASE WHEN strpos(contract::text, '\u0000') = 0 THEN contract -> 'operation' END,
            'error_type', error_type, 'error', error, 'attempts', attempts)
        FROM dead_letters WHERE correlation_id = job.id),
       (SELECT true FROM outbox WHERE correlation_id = job.id)
FROM unnest(%(ids)s::uuid[]) AS job (id)

-- name: purge_ledger
-- Forget the oldest rows past their retention, a small step at a time. By their place in the table: they are locked,
-- and cannot move.
DELETE FROM job_ledger
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM job_ledger
    WHERE finished_at < now() - make_interval(days => %(days)s)
    ORDER BY finished_at
    FETCH FIRST %(step)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
))

-- name: open_query
-- Before a query: what the ledger says of its id, and what was kept of it is cleared if the query ends well.
WITH dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s),
     delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s)
SELECT fingerprint, result FROM job_ledger WHERE correlation_id = %(correlation_id)s
