-- Runs of imports and their schedules; see storage/import_runs.py, open_runs.py, import_schedules.py, import_progress.py
-- and import_health.py.
--
-- The newest runs of a name are looked for with BETWEEN, and in the order of the index (name, queued_at): with `=`
-- PostgreSQL walks all imports' runs by time, past those of every import that runs more often.

-- name: add_run
-- Insert a queued run, unless it exists. One that is not to be published is due in a hundred years: Python has no
-- timestamp for infinity.
INSERT INTO import_runs (run_id, name, due, plan, force, publish_after)
VALUES (
    %(run_id)s, %(name)s, %(due)s, %(plan)s, %(force)s,
    CASE WHEN %(publish)s THEN now() ELSE now() + interval '100 years' END
)
ON CONFLICT (run_id) DO NOTHING

-- name: list_open_runs
-- Runs of one import, or of all, that have not ended, the oldest first.
SELECT * FROM import_runs
WHERE finished_at IS NULL AND (%(name)s::text IS NULL OR name = %(name)s)
ORDER BY queued_at
FETCH FIRST %(limit)s ROWS ONLY

-- name: add_skipped_run
-- Insert a run that ends before it begins: overlapped or missed.
INSERT INTO import_runs (run_id, name, due, plan, state, finished_at, error_type, error)
VALUES (%(run_id)s, %(name)s, %(due)s, %(plan)s, %(state)s, now(), %(error_type)s, %(error)s)
ON CONFLICT (run_id) DO NOTHING

-- name: begin_run
-- Begin an attempt of a run, unless it has ended.
UPDATE import_runs
SET state = 'running', started_at = coalesce(started_at, now()), attempts = attempts + 1,
    publish_after = now() + make_interval(secs => %(delay)s), published = 0
WHERE run_id = %(run_id)s AND finished_at IS NULL
RETURNING attempts

-- name: postpone_run
-- Postpone the next publication of a run that is on the queue.
UPDATE import_runs SET publish_after = clock_timestamp() + make_interval(secs => %(delay)s)
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- name: uncount_run_attempt
-- Take an attempt off the count.
UPDATE import_runs SET attempts = greatest(attempts - 1, 0)
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- name: finish_run
-- Record the final state of a run, once.
WITH reported AS (DELETE FROM import_progress WHERE run_id = %(run_id)s)
UPDATE import_runs
SET state = %(state)s, finished_at = clock_timestamp(), started_at = coalesce(started_at, now()),
    rows_read = %(rows_read)s, rows_inserted = %(rows_inserted)s, rows_updated = %(rows_updated)s,
    rows_skipped = %(rows_skipped)s, rows_rejected = %(rows_rejected)s, bytes = %(bytes)s,
    source_version = %(source_version)s, error_type = %(error_type)s, error = %(error)s
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- name: save_progress
-- Keep the progress of a run that has not ended; it was updated when something of it last moved.
INSERT INTO import_progress (run_id, progress)
SELECT run_id, %(progress)s FROM import_runs WHERE run_id = %(run_id)s AND finished_at IS NULL
ON CONFLICT (run_id) DO UPDATE SET
    progress = excluded.progress,
    updated_at = CASE WHEN (import_progress.progress ->> 'phase', import_progress.progress ->> 'current',
                            import_progress.progress ->> 'bytes')
                           IS DISTINCT FROM (excluded.progress ->> 'phase', excluded.progress ->> 'current',
                                             excluded.progress ->> 'bytes')
                      THEN clock_timestamp() ELSE import_progress.updated_at END

-- name: find_progress
-- Progress of those of these runs that have not ended.
SELECT run_id, progress, updated_at FROM import_progress JOIN import_runs USING (run_id)
WHERE run_id = ANY (%(ids)s) AND finished_at IS NULL

-- name: stuck_runs
-- Runs that are being read and have not moved for so many seconds, the longest first.
SELECT run_id, name, updated_at FROM import_progress JOIN import_runs USING (run_id)
WHERE state = 'running' AND progress ->> 'phase' = 'reading'
  AND updated_at < clock_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY updated_at

-- name: find_run
-- One run.
SELECT * FROM import_runs WHERE run_id = %(run_id)s

-- name: list_runs
-- Runs of all imports, the newest first.
SELECT * FROM import_runs
ORDER BY queued_at DESC, due DESC NULLS LAST
FETCH FIRST %(limit)s ROWS ONLY

-- name: list_runs_of
-- Runs of one import, the newest first. The limit is a subquery, whose value no plan is made for: with a bare parameter
-- PostgreSQL finds the plan for each call cheaper than the one for all, and plans anew each time.
SELECT * FROM import_runs
WHERE name BETWEEN %(name)s AND %(name)s
ORDER BY name DESC, queued_at DESC, due DESC NULLS LAST
FETCH FIRST (SELECT %(limit)s::int) ROWS ONLY

-- name: last_runs
-- The newest run of each of these imports.
SELECT run.*
FROM unnest(%(names)s::text[]) AS wanted (name),
     LATERAL (SELECT * FROM import_runs WHERE import_runs.name BETWEEN wanted.name AND wanted.name
              ORDER BY name DESC, queued_at DESC FETCH FIRST ROW ONLY) AS run

-- name: last_version
-- Source version of the last successful run of the same plan.
SELECT source_version FROM import_runs
WHERE name BETWEEN %(name)s AND %(name)s AND state IN ('done', 'unchanged') AND plan = %(plan)s
ORDER BY name DESC, queued_at DESC
FETCH FIRST ROW ONLY

-- name: claim_runs
-- Lock the rows of runs to publish, for the first time or again, without waiting.
SELECT run_id, name, due FROM import_runs
WHERE finished_at IS NULL AND publish_after <= clock_timestamp()
ORDER BY publish_after
FETCH FIRST %(limit)s ROWS ONLY
FOR UPDATE SKIP LOCKED

-- name: unmark_runs_published
-- Undo a publication that failed: the next one is due now.
UPDATE import_runs SET publish_after = clock_timestamp(), published = greatest(published - 1, 0)
WHERE run_id = ANY (%(ids)s)

-- name: mark_runs_published
-- Postpone the next publication, by twice as long each time up to 64 times: there may be no worker for days.
UPDATE import_runs
SET publish_after = clock_timestamp() + make_interval(secs => %(delay)s * 2 ^ least(published, 6)),
    published = published + 1
WHERE run_id = ANY (%(ids)s)

-- name: purge_runs
-- Delete old runs, a small step at a time; the last successful one stays, to recognize an unchanged source. One that
-- never ended belonged to a command that was killed. Not EXISTS: a join of runs with the same name is quadratic. By
-- their place in the table: they are locked, and cannot move.
DELETE FROM import_runs
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM import_runs AS old
    WHERE queued_at < now() - make_interval(days => %(days)s)
      AND queued_at < (SELECT queued_at FROM import_runs AS newer
                       WHERE newer.name BETWEEN old.name AND old.name
                         AND (newer.state IN ('done', 'unchanged') OR old.state NOT IN ('done', 'unchanged'))
                       ORDER BY newer.name DESC, newer.queued_at DESC
                       FETCH FIRST ROW ONLY)
    ORDER BY queued_at
    FETCH FIRST %(step)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
))

-- name: server_time
-- Time by the clock of the server.
SELECT clock_timestamp()

-- name: add_schedules
-- Insert schedules that are new.
INSERT INTO import_schedules (name, decided_until)
SELECT name, %(now)s FROM unnest(%(names)s::text[]) AS given (name)
ON CONFLICT (name) DO NOTHING

-- name: lock_schedules
-- Lock these schedules, without those that another beat has locked, and return up to when each is decided.
SELECT name, decided_until FROM import_schedules
WHERE name = ANY (%(names)s)
ORDER BY name
FOR UPDATE SKIP LOCKED

-- name: list_decided
-- Up to when each schedule is decided.
SELECT name, decided_until FROM import_schedules

-- name: decide_schedule
-- Set up to when a schedule is decided.
UPDATE import_schedules SET decided_until = %(until)s WHERE name = %(name)s

-- name: forget_schedules
-- Delete every schedule but these.
DELETE FROM import_schedules WHERE name <> ALL (%(names)s)

-- name: measure_imports
-- Health of each import of the imports file that is scheduled, has an open run, or was started in the last week.
-- The names come one by one off the index (name, queued_at). One with a space is a file that somebody imported by
-- hand, and was told of; nothing that was skipped or cancelled changes how the last run ended.
WITH RECURSIVE names (name) AS (
    (SELECT name FROM import_runs ORDER BY name FETCH FIRST ROW ONLY)
    UNION ALL
    SELECT (SELECT following.name FROM import_runs AS following WHERE following.name > names.name
            ORDER BY following.name FETCH FIRST ROW ONLY)
    FROM names WHERE names.name IS NOT NULL
)
SELECT name, greatest(extract(epoch FROM now() - coalesce(waiting.since, now())), 0)::double precision AS open,
       extract(epoch FROM succeeded.finished_at)::double precision AS last_success,
       coalesce(ended.state = 'failed', false) AS failed
FROM (SELECT name FROM names WHERE name IS NOT NULL UNION SELECT name FROM import_schedules) AS known
LEFT JOIN (SELECT name, min(coalesce(due, queued_at)) AS since FROM import_runs
           WHERE finished_at IS NULL GROUP BY name) AS waiting USING (name)
LEFT JOIN LATERAL (SELECT queued_at FROM import_runs AS run WHERE run.name BETWEEN known.name AND known.name
                   ORDER BY run.name DESC, queued_at DESC FETCH FIRST ROW ONLY) AS newest ON true
LEFT JOIN LATERAL (SELECT state FROM import_runs AS run
                   WHERE run.name BETWEEN known.name AND known.name AND state IN ('done', 'unchanged', 'failed')
                   ORDER BY run.name DESC, queued_at DESC FETCH FIRST ROW ONLY) AS ended ON true
LEFT JOIN LATERAL (SELECT finished_at FROM import_runs AS run
                   WHERE run.name BETWEEN known.name AND known.name AND state IN ('done', 'unchanged')
                   ORDER BY run.name DESC, queued_at DESC FETCH FIRST ROW ONLY) AS succeeded ON true
WHERE position('/' IN name) = 0
  AND (waiting.since IS NOT NULL OR newest.queued_at > now() - interval '7 days'
       OR EXISTS (SELECT FROM import_schedules WHERE import_schedules.name = known.name))
ORDER BY name

-- name: measure_schedules
-- Seconds since beat last looked at the schedule that waits longest; null where there is none.
SELECT extract(epoch FROM now() - min(looked_at))::double precision FROM import_schedules

-- name: look_at_schedules
-- Heartbeat of the beat that plans these schedules, at most every few seconds.
UPDATE import_schedules SET looked_at = clock_timestamp()
WHERE name = ANY (%(names)s) AND looked_at < clock_timestamp() - interval '5 seconds'
