-- What operators set and did, and the figures they look at; see storage/pauses.py, storage/audit.py, storage/overview.py.

-- name: add_pause
-- Pause a queue or an import; no row comes back if it is paused.
INSERT INTO pauses (kind, name, paused_by) VALUES (%(kind)s, %(name)s, %(actor)s)
ON CONFLICT (kind, name) DO NOTHING
RETURNING name

-- name: remove_pause
-- Resume it; no row comes back if it was not paused.
DELETE FROM pauses WHERE kind = %(kind)s AND name = %(name)s RETURNING name

-- name: list_pauses
-- What is paused of a kind.
SELECT name, paused_at, paused_by FROM pauses WHERE kind = %(kind)s ORDER BY name

-- name: add_audit_entry
-- Record what an operator did.
INSERT INTO audit_log (actor, action, filter, count) VALUES (%(actor)s, %(action)s, %(filter)s, %(count)s)

-- name: list_audit_entries
-- What operators did, the newest first, behind the entry last seen.
SELECT id, at, actor, action, filter, count FROM audit_log
WHERE (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
FETCH FIRST %(limit)s ROWS ONLY

-- name: job_rates
-- Jobs that ended in each of so many equal spans of time until now, the oldest first, failed and cancelled ones apart,
-- and in ms the 0.5 and 0.95 quantiles of how long they waited and took, of the last jobs of each span. An import has no
-- part in these: it takes minutes.
SELECT span.since, counted.jobs, failed.failures, cancelled.cancelled, sampled.duration, sampled.waited
FROM (SELECT now() - make_interval(secs => %(seconds)s * n) AS since,
             now() - make_interval(secs => %(seconds)s * (n - 1)) AS until
      FROM generate_series(1, %(spans)s) AS n) AS span,
     LATERAL (SELECT count(*) AS jobs FROM job_ledger
              WHERE finished_at >= span.since AND finished_at < span.until) AS counted,
     LATERAL (SELECT count(*) AS failures FROM job_ledger
              WHERE state = 'FAILURE' AND finished_at >= span.since AND finished_at < span.until) AS failed,
     LATERAL (SELECT count(*) AS cancelled FROM job_ledger
              WHERE state = 'REVOKED' AND finished_at >= span.since AND finished_at < span.until) AS cancelled,
     LATERAL (
         SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) AS duration,
                percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY waited_ms) AS waited
         FROM (SELECT duration_ms::double precision AS duration_ms,
                      greatest(extract(epoch FROM finished_at - sent_at) * 1000 - coalesce(duration_ms, 0), 0)
                          ::double precision AS waited_ms
               FROM job_ledger
               WHERE finished_at >= span.since AND finished_at < span.until AND operation <> 'import'
               ORDER BY finished_at DESC
               FETCH FIRST %(sample)s ROWS ONLY) AS last
     ) AS sampled
ORDER BY span.since

-- name: job_quantiles
-- In ms the 0.5 and 0.95 quantiles of how long jobs waited and took, of the last so many in the last so many seconds.
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) AS duration,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY waited_ms) AS waited
FROM (SELECT duration_ms::double precision AS duration_ms,
             greatest(extract(epoch FROM finished_at - sent_at) * 1000 - coalesce(duration_ms, 0), 0)::double precision
                 AS waited_ms
      FROM job_ledger
      WHERE finished_at >= now() - make_interval(secs => %(seconds)s) AND operation <> 'import'
      ORDER BY finished_at DESC
      FETCH FIRST %(sample)s ROWS ONLY) AS last
