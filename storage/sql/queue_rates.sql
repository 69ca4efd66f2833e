-- Figures of queues out of the ledger; see storage/queue_rates.py.

-- name: queue_rates
-- Jobs of each queue that ended in the last so many seconds.
SELECT queue, count(*) FROM job_ledger
WHERE finished_at > now() - make_interval(secs => %(seconds)s) AND queue IS NOT NULL
GROUP BY queue
