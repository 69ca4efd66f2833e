-- The statements that make a job happen once; see storage/ledger.py.

-- name: record_job
-- Record a finished job, and clear what was kept while it was not. Fails if the job is in the ledger already.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s)
INSERT INTO job_ledger (correlation_id, fingerprint, result)
VALUES (%(correlation_id)s, %(fingerprint)s, %(result)s)

-- name: record_jobs
-- Record the finished jobs of a group, as record_job does with one. Fails if one of them is in the ledger already.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = ANY (%(ids)s)),
     published AS (DELETE FROM outbox WHERE correlation_id = ANY (%(ids)s)),
     buried AS (DELETE FROM dead_letters WHERE correlation_id = ANY (%(ids)s))
INSERT INTO job_ledger (correlation_id, fingerprint, result)
SELECT correlation_id, decode(fingerprint, 'hex'), result
FROM json_to_recordset(%(jobs)s::json) AS job (correlation_id uuid, fingerprint text, result json)

-- name: find_finished
-- Which of these jobs the ledger has.
SELECT correlation_id FROM job_ledger WHERE correlation_id = ANY (%(ids)s)

-- name: cancel_job
-- Take a job's place in the ledger before the job does; no row comes back if the job was first. An import's run ends
-- in its history as well, which remembers longer. Whoever ends a run writes in this order: the ledger, then the run.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s),
     ended AS (UPDATE import_runs
               SET state = 'cancelled', finished_at = clock_timestamp(), error_type = 'revoked', error = %(error)s
               WHERE run_id = %(correlation_id)s AND finished_at IS NULL)
INSERT INTO job_ledger (correlation_id, result)
VALUES (%(correlation_id)s, %(result)s)
ON CONFLICT (correlation_id) DO NOTHING
RETURNING correlation_id

-- name: find_job
-- What the ledger says of a job.
SELECT fingerprint, result FROM job_ledger WHERE correlation_id = %(correlation_id)s

-- name: job_state
-- What PostgreSQL knows of a job: its result, its dead letter, or that it waits in the outbox.
SELECT (SELECT result FROM job_ledger WHERE correlation_id = %(correlation_id)s),
       (SELECT json_build_object('operation', contract -> 'operation', 'error_type', error_type,
                                 'error', error, 'attempts', attempts)
        FROM dead_letters WHERE correlation_id = %(correlation_id)s),
       EXISTS (SELECT FROM outbox WHERE correlation_id = %(correlation_id)s)

-- name: purge_ledger
-- Forget the oldest rows past their retention, a small step at a time.
DELETE FROM job_ledger
WHERE correlation_id IN (
    SELECT correlation_id FROM job_ledger
    WHERE finished_at < now() - make_interval(days => %(days)s)
    ORDER BY finished_at
    FETCH FIRST %(step)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
)

-- name: open_query
-- Before a query: what the ledger says of its id, and what was kept of it is cleared if the query ends well.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s)
SELECT fingerprint, result FROM job_ledger WHERE correlation_id = %(correlation_id)s
