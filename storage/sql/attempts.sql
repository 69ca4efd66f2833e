-- Deliveries of a job after its first; see storage/attempts.py.

-- name: try_job_lock
-- Try to lock a job until the transaction ends; nobody else executes it then.
SELECT pg_try_advisory_xact_lock(%(key)s)

-- name: count_delivery
-- Count a delivery after the first, and return how many there were.
INSERT INTO job_attempts (correlation_id) VALUES (%(correlation_id)s)
ON CONFLICT (correlation_id) DO UPDATE SET deliveries = job_attempts.deliveries + 1
RETURNING deliveries

-- name: clear_job
-- Remove what was kept of a job while it was not finished.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s)
DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s
