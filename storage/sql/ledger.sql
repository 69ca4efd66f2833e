-- The statements that make a job happen once; see storage/ledger.py.

-- name: close_job
-- Enter a finished job, and clear what was kept while it was not. Fails if the job is in the ledger already.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     buried AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s)
INSERT INTO job_ledger (correlation_id, fingerprint, result)
VALUES (%(correlation_id)s, %(fingerprint)s, %(result)s)

-- name: cancel_job
-- Take a job's place in the ledger before the job does; no row comes back if the job was first. An import's run ends
-- in its history as well, which remembers longer. Whoever ends a run writes in this order: the ledger, then the run.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     buried AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s),
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

-- name: count_delivery
-- Note that a job was delivered again and say how often that has happened.
INSERT INTO job_attempts (correlation_id) VALUES (%(correlation_id)s)
ON CONFLICT (correlation_id) DO UPDATE SET deliveries = job_attempts.deliveries + 1
RETURNING deliveries

-- name: clear_job
-- Clear what was kept of a job while it was not finished.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s)
DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s

-- name: open_query
-- Before a query: what the ledger says of its id, and what was kept of it is cleared if the query ends well.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     buried AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s)
SELECT fingerprint, result FROM job_ledger WHERE correlation_id = %(correlation_id)s

-- name: clear_finished_letters
-- Remove dead letters of jobs that ended after all: one delivery was given up while another was committing.
DELETE FROM dead_letters USING job_ledger WHERE dead_letters.correlation_id = job_ledger.correlation_id

-- name: bury_job
-- Keep a job that ran out of attempts, unless it is finished: one of them may have ended after all.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s RETURNING first_at),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s)
INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)
SELECT %(correlation_id)s, %(contract)s, %(error_type)s::text, %(error)s::text, %(attempts)s,
       coalesce((SELECT first_at FROM delivered), now())
WHERE NOT EXISTS (SELECT FROM job_ledger WHERE correlation_id = %(correlation_id)s)
ON CONFLICT (correlation_id) DO UPDATE
SET error_type = excluded.error_type, error = excluded.error, attempts = excluded.attempts, died_at = now()

-- name: list_dead_letters
-- Dead letters by id or by kind of error, the newest first. A job in the ledger has ended: it is none.
SELECT correlation_id, contract, error_type, error, attempts, first_at, died_at
FROM dead_letters
WHERE (%(ids)s::uuid[] IS NULL OR correlation_id = ANY (%(ids)s::uuid[]))
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
  AND NOT EXISTS (SELECT FROM job_ledger WHERE job_ledger.correlation_id = dead_letters.correlation_id)
ORDER BY died_at DESC
FETCH FIRST %(limit)s ROWS ONLY

-- name: count_dead_letters
-- How many dead letters there are.
SELECT count(*) FROM dead_letters

-- name: discard_dead_letters
-- Remove dead letters for good.
DELETE FROM dead_letters WHERE correlation_id = ANY (%(ids)s)
