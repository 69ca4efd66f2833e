-- Deliveries of a job after its first; see storage/attempts.py.

-- name: keep_lock
-- Take the lock on a job for the session as well, to keep it over the commit between two transactions.
SELECT pg_advisory_lock(%(key)s)

-- name: hold_kept_lock
-- Give a kept lock to this transaction, and end with it.
SELECT pg_advisory_xact_lock(%(key)s), pg_advisory_unlock(%(key)s)

-- name: count_delivery
-- Count a delivery after the first, and return how many there were.
INSERT INTO job_attempts (correlation_id) VALUES (%(correlation_id)s)
ON CONFLICT (correlation_id) DO UPDATE SET deliveries = job_attempts.deliveries + 1
RETURNING deliveries

-- name: note_failed_attempt
-- Keep why an attempt failed, the last twenty of a job. This does not count a delivery.
INSERT INTO job_attempts (correlation_id, deliveries, operation, pattern_name, queue, errors)
VALUES (%(correlation_id)s, 0, %(operation)s, %(pattern_name)s, %(queue)s, jsonb_build_array(%(attempt)s::jsonb))
ON CONFLICT (correlation_id) DO UPDATE
SET operation = excluded.operation, pattern_name = excluded.pattern_name, queue = excluded.queue,
    errors = (SELECT jsonb_agg(error ORDER BY place) FROM (
                  SELECT error, place
                  FROM jsonb_array_elements(coalesce(job_attempts.errors, '[]') || excluded.errors)
                       WITH ORDINALITY AS kept (error, place)
                  ORDER BY place DESC FETCH FIRST 20 ROWS ONLY) AS newest)

-- name: purge_attempts
-- Remove attempts of jobs that have ended, which are there where a copy was counted just when another one ended, and of
-- jobs that began longer ago than the ledger remembers any.
DELETE FROM job_attempts
-- One condition on the time, which an index has. `days` is one at least.
WHERE first_at < now() - interval '1 day'
  AND (first_at < now() - make_interval(days => %(days)s)
       OR EXISTS (SELECT FROM job_ledger WHERE job_ledger.correlation_id = job_attempts.correlation_id))
