-- Figures out of the ledger, for operators; see storage/figures.py.

-- name: spans
-- So many equal spans of time until now, numbered from the newest.
(SELECT n, now() - make_interval(secs => %(seconds)s * n) AS since,
        now() - make_interval(secs => %(seconds)s * (n - 1)) AS until
 FROM generate_series(1, %(spans)s) AS n) AS span

-- name: ended_in_span
-- Whether a job of the ledger ended in a span.
finished_at >= span.since AND finished_at < span.until

-- name: times_of_job
-- In ms how long a job of the ledger took, and how long it waited before; null where it is not known when it was sent:
-- greatest() alone would be 0 then.
duration_ms::double precision AS duration_ms,
CASE WHEN sent_at IS NOT NULL
     THEN greatest(extract(epoch FROM finished_at - sent_at) * 1000 - coalesce(duration_ms, 0), 0)::double precision
     END AS waited_ms

-- name: quantiles_of_times
-- The 0.5 and 0.95 quantiles of both.
percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) AS duration,
percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY waited_ms) AS waited

-- name: job_rates
-- Jobs that ended in each of the spans, the oldest first, failed and cancelled ones apart, and quantiles of the last jobs
-- of each span. An import has no part in these: it takes minutes.
SELECT span.since, counted.jobs, failed.failures, cancelled.cancelled, sampled.duration, sampled.waited
FROM {{spans}},
     LATERAL (SELECT count(*) AS jobs FROM job_ledger WHERE {{ended_in_span}}) AS counted,
     LATERAL (SELECT count(*) AS failures FROM job_ledger WHERE state = 'FAILURE' AND {{ended_in_span}}) AS failed,
     LATERAL (SELECT count(*) AS cancelled FROM job_ledger WHERE state = 'REVOKED' AND {{ended_in_span}}) AS cancelled,
     LATERAL (
         SELECT {{quantiles_of_times}}
         FROM (SELECT {{times_of_job}} FROM job_ledger
               WHERE {{ended_in_span}} AND operation <> 'import'
               ORDER BY finished_at DESC
               FETCH FIRST %(sample)s ROWS ONLY) AS last
     ) AS sampled
ORDER BY span.since

-- name: job_quantiles
-- Quantiles of the last so many jobs in the last so many seconds.
SELECT {{quantiles_of_times}}
FROM (SELECT {{times_of_job}} FROM job_ledger
      WHERE finished_at >= now() - make_interval(secs => %(seconds)s) AND operation <> 'import'
      ORDER BY finished_at DESC
      FETCH FIRST %(sample)s ROWS ONLY) AS last

-- name: queue_rates
-- Jobs of each queue that ended in the last so many seconds.
SELECT queue, count(*) FROM job_ledger
WHERE finished_at > now() - make_interval(secs => %(seconds)s) AND queue IS NOT NULL
GROUP BY queue

-- name: queue_history
-- Jobs of each queue that ended in each of the spans. Of a span with many jobs the queues of the last so many are
-- counted, and stand for all: the index has no queues.
SELECT n, queue, total * found / sum(found) OVER (PARTITION BY n) AS jobs
FROM (
    SELECT span.n, counted.total, sampled.queue, sampled.found
    FROM {{spans}},
         LATERAL (SELECT count(*) AS total FROM job_ledger WHERE {{ended_in_span}}) AS counted,
         LATERAL (SELECT queue, count(*) AS found
                  FROM (SELECT queue FROM job_ledger WHERE {{ended_in_span}}
                        ORDER BY finished_at DESC
                        FETCH FIRST %(sample)s ROWS ONLY) AS last
                  GROUP BY queue) AS sampled
) AS counted_spans
