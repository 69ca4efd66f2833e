-- Figures of queues out of the ledger; see storage/queue_rates.py.

-- name: queue_rates
-- Jobs of each queue that ended in the last so many seconds.
SELECT queue, count(*) FROM job_ledger
WHERE finished_at > now() - make_interval(secs => %(seconds)s) AND queue IS NOT NULL
GROUP BY queue

-- name: queue_history
-- Jobs of each queue that ended in each of so many equal spans of time until now. Of a span with many jobs the queues of
-- the last so many are counted, and stand for all: the index has no queues.
SELECT n, queue, total * found / sum(found) OVER (PARTITION BY n) AS jobs
FROM (
    SELECT span.n, counted.total, sampled.queue, sampled.found
    FROM (SELECT n, now() - make_interval(secs => %(seconds)s * n) AS since,
                 now() - make_interval(secs => %(seconds)s * (n - 1)) AS until
          FROM generate_series(1, %(spans)s) AS n) AS span,
         LATERAL (SELECT count(*) AS total FROM job_ledger
                  WHERE finished_at >= span.since AND finished_at < span.until) AS counted,
         LATERAL (SELECT queue, count(*) AS found
                  FROM (SELECT queue FROM job_ledger
                        WHERE finished_at >= span.since AND finished_at < span.until
                        ORDER BY finished_at DESC
                        FETCH FIRST %(sample)s ROWS ONLY) AS last
                  GROUP BY queue) AS sampled
) AS spans
