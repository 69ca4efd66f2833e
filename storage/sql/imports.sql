-- Runs of imports, their schedules, and the staging table of one run; see storage/import_runs.py, import_schedules.py and staging.py.

-- name: add_run
-- Note a run that is to be; no row comes back if it is known already. One that is not to be published is due in a
-- hundred years: Python has no word for infinity.
INSERT INTO import_runs (run_id, name, due, plan, force, publish_after)
VALUES (
    %(run_id)s, %(name)s, %(due)s, %(plan)s, %(force)s,
    CASE WHEN %(publish)s THEN now() ELSE now() + interval '100 years' END
)
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id

-- name: add_missed_run
-- Note due times that nobody was there for and nobody makes up for.
INSERT INTO import_runs (run_id, name, due, plan, state, finished_at, error)
VALUES (%(run_id)s, %(name)s, %(due)s, %(plan)s, 'missed', now(), %(error)s)
ON CONFLICT (run_id) DO NOTHING

-- name: begin_run
-- Note that a worker begins a run, unless it has ended; how often that has happened is counted.
UPDATE import_runs
SET state = 'running', started_at = coalesce(started_at, now()), attempts = attempts + 1,
    publish_after = now() + make_interval(secs => %(delay)s), published = 0
WHERE run_id = %(run_id)s AND finished_at IS NULL
RETURNING attempts

-- name: put_run_off
-- Somebody has just put the run on the queue.
UPDATE import_runs SET publish_after = clock_timestamp() + make_interval(secs => %(delay)s)
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- name: hand_run_back
-- Take back that the run was begun.
UPDATE import_runs SET attempts = greatest(attempts - 1, 0)
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- name: finish_run
-- Note how a run ended, once.
UPDATE import_runs
SET state = %(state)s, finished_at = clock_timestamp(), started_at = coalesce(started_at, now()),
    rows_read = %(rows_read)s, rows_inserted = %(rows_inserted)s, rows_updated = %(rows_updated)s,
    rows_skipped = %(rows_skipped)s, rows_rejected = %(rows_rejected)s, bytes = %(bytes)s,
    source_version = %(source_version)s, error_type = %(error_type)s, error = %(error)s
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- name: find_run
-- One run.
SELECT * FROM import_runs WHERE run_id = %(run_id)s

-- name: list_runs
-- Runs of one import or of all, the newest first.
SELECT * FROM import_runs
WHERE (%(name)s::text IS NULL OR name = %(name)s)
ORDER BY queued_at DESC, due DESC NULLS LAST
FETCH FIRST %(limit)s ROWS ONLY

-- name: last_runs
-- The newest run of each of these imports.
SELECT run.*
FROM unnest(%(names)s::text[]) AS wanted (name),
     LATERAL (SELECT * FROM import_runs WHERE import_runs.name = wanted.name
              ORDER BY queued_at DESC FETCH FIRST ROW ONLY) AS run

-- name: last_version
-- What the source was when the same plan was last done.
SELECT source_version FROM import_runs
WHERE name = %(name)s AND state IN ('done', 'unchanged') AND plan = %(plan)s
ORDER BY queued_at DESC
FETCH FIRST ROW ONLY

-- name: claim_runs
-- Lock the runs that are to be put on the queue, for the first time or again; nobody waits for anybody.
SELECT run_id, name, due FROM import_runs
WHERE finished_at IS NULL AND publish_after <= clock_timestamp()
ORDER BY publish_after
FETCH FIRST %(limit)s ROWS ONLY
FOR UPDATE SKIP LOCKED

-- name: unmark_runs_published
-- They did not get there: put them there as soon as may be.
UPDATE import_runs SET publish_after = clock_timestamp(), published = greatest(published - 1, 0)
WHERE run_id = ANY (%(ids)s)

-- name: mark_runs_published
-- Put the next publication off, twice as long each time up to 64 times: no worker need be there for days.
UPDATE import_runs
SET publish_after = clock_timestamp() + make_interval(secs => %(delay)s * 2 ^ least(published, 6)),
    published = published + 1
WHERE run_id = ANY (%(ids)s)

-- name: purge_runs
-- Forget old runs, a small step at a time; the last that was done stays, to know an unchanged source by. One that
-- never ended was done by a command that was killed.
DELETE FROM import_runs
WHERE run_id IN (
    SELECT run_id FROM import_runs AS old
    WHERE queued_at < now() - make_interval(days => %(days)s)
      AND EXISTS (SELECT FROM import_runs AS newer
                  WHERE newer.name = old.name AND newer.queued_at > old.queued_at
                    AND (newer.state IN ('done', 'unchanged') OR old.state NOT IN ('done', 'unchanged')))
    ORDER BY queued_at
    FETCH FIRST %(step)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
)

-- name: server_clock
-- What time it is, to everybody who asks this server.
SELECT clock_timestamp()

-- name: add_schedules
-- Begin to follow schedules that are not known yet.
INSERT INTO import_schedules (name, decided_until)
SELECT name, %(now)s FROM unnest(%(names)s::text[]) AS given (name)
ON CONFLICT (name) DO NOTHING

-- name: lock_schedules
-- Lock these schedules and say up to when each has been decided; one that another beat decides now is left out.
SELECT name, decided_until FROM import_schedules
WHERE name = ANY (%(names)s)
ORDER BY name
FOR UPDATE SKIP LOCKED

-- name: list_decided
-- Say up to when each schedule has been decided.
SELECT name, decided_until FROM import_schedules

-- name: decide_schedule
-- Note up to when a schedule has been decided.
UPDATE import_schedules SET decided_until = %(until)s WHERE name = %(name)s

-- name: forget_schedules
-- Stop to follow every schedule but these.
DELETE FROM import_schedules WHERE name <> ALL (%(names)s)

-- name: watch_client
-- Let this transaction end soon after the host of its client has vanished, where the server has such settings.
SELECT set_config(wanted.name, wanted.setting, true)
FROM (VALUES ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
             ('tcp_user_timeout', '30000')) AS wanted (name, setting)
JOIN pg_settings USING (name)

-- name: watch_client_in_statements
-- The same in the middle of a statement, which nobody reads from the client in. New in PostgreSQL 14.
SELECT set_config(name, '5s', true) FROM pg_settings WHERE name = 'client_connection_check_interval'

-- name: try_lock
-- Take a lock that ends with the transaction, or say that somebody else has it.
SELECT pg_try_advisory_xact_lock(%(key)s)

-- name: held_locks
-- The keys of all such locks in this database.
SELECT (classid::bigint << 32) | objid::bigint
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: create_staging
-- Rows of one run, as they come. It goes when the transaction ends.
CREATE TEMPORARY TABLE import_rows (
    file                  integer NOT NULL,
    line                  bigint NOT NULL,
    id                    uuid NOT NULL DEFAULT gen_random_uuid(),
    pattern_name          text, pattern_type      text, language             text, category          text,
    template_code         text, description       text, example_usage        text, source            text,
    confidence_score      double precision, usage_count integer, success_rate double precision,
    complexity_score      integer, maintainability_score double precision, performance_score double precision,
    parent_pattern_id     uuid, is_deprecated boolean, created_by text, tags text[], context jsonb
) ON COMMIT DROP

-- name: copy_staging
-- Stream rows into the staging table.
COPY pg_temp.import_rows (file, line, {columns}) FROM STDIN

-- name: count_repeated
-- How many rows have a key that stands in an earlier row.
SELECT coalesce(sum(rows - 1), 0)::bigint FROM (
    SELECT count(*) AS rows FROM pg_temp.import_rows GROUP BY pattern_name, pattern_type, language HAVING count(*) > 1
) AS repeated

-- name: find_repeated
-- The first rows that have the key of an earlier one, and where that is.
SELECT file, line, first_file, first_line, pattern_name, pattern_type, language FROM (
    SELECT file, line, pattern_name, pattern_type, language,
           first_value(file) OVER same AS first_file, first_value(line) OVER same AS first_line,
           row_number() OVER same AS place
    FROM pg_temp.import_rows
    WHERE (pattern_name, pattern_type, language) IN (
        SELECT pattern_name, pattern_type, language FROM pg_temp.import_rows GROUP BY 1, 2, 3 HAVING count(*) > 1)
    WINDOW same AS (PARTITION BY pattern_name, pattern_type, language ORDER BY file, line)
) AS keyed
WHERE place > 1
ORDER BY file, line
FETCH FIRST %(limit)s ROWS ONLY

-- name: drop_repeated
-- Of rows with the same key keep the first, or the last, as if they had been written one after the other.
DELETE FROM pg_temp.import_rows AS given
USING (SELECT pattern_name, pattern_type, language,
              CASE WHEN %(keep_first)s THEN min(ARRAY[file, line]) ELSE max(ARRAY[file, line]) END AS kept
       FROM pg_temp.import_rows GROUP BY 1, 2, 3 HAVING count(*) > 1) AS repeated
WHERE given.pattern_name = repeated.pattern_name AND given.pattern_type = repeated.pattern_type
  AND given.language = repeated.language AND ARRAY[given.file, given.line] <> repeated.kept

-- name: count_orphans
-- How many rows have a parent that does not exist.
SELECT count(*) FROM pg_temp.import_rows AS given
WHERE parent_pattern_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM pattern_templates WHERE pattern_templates.id = given.parent_pattern_id)

-- name: find_orphans
-- The first of them.
SELECT file, line, parent_pattern_id FROM pg_temp.import_rows AS given
WHERE parent_pattern_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM pattern_templates WHERE pattern_templates.id = given.parent_pattern_id)
ORDER BY file, line
FETCH FIRST %(limit)s ROWS ONLY

-- name: remove_orphans
-- Take rows out whose parent does not exist, and say which they were.
DELETE FROM pg_temp.import_rows AS given
WHERE parent_pattern_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM pattern_templates WHERE pattern_templates.id = given.parent_pattern_id)
RETURNING file, line, parent_pattern_id, to_jsonb(given) - 'file' - 'line' - 'id'

-- name: merge_new
-- Write the rows whose key is free.
WITH merged AS (
    INSERT INTO pattern_templates (id, {columns})
    SELECT id, {columns} FROM pg_temp.import_rows
    ON CONFLICT (pattern_name, pattern_type, language) DO NOTHING
    RETURNING 1
)
SELECT count(*), 0 FROM merged

-- name: merge_all
-- Write the rows whose key is free; of the others change what differs. A row that was inserted has no xmax.
WITH merged AS (
    INSERT INTO pattern_templates AS present (id, {columns})
    SELECT id, {columns} FROM pg_temp.import_rows
    ON CONFLICT (pattern_name, pattern_type, language) DO UPDATE
    SET {assignments}, updated_at = now()
    WHERE ({present}) IS DISTINCT FROM ({given})
    RETURNING (xmax = 0) AS inserted
)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM merged

-- name: count_taken
-- How many rows have a key that the table had before.
SELECT count(*) FROM pg_temp.import_rows AS given
JOIN pattern_templates AS present USING (pattern_name, pattern_type, language)
WHERE present.id <> given.id

-- name: find_taken
-- The first of them.
SELECT given.file, given.line, pattern_name, pattern_type, language
FROM pg_temp.import_rows AS given
JOIN pattern_templates AS present USING (pattern_name, pattern_type, language)
WHERE present.id <> given.id
ORDER BY given.file, given.line
FETCH FIRST %(limit)s ROWS ONLY

-- name: measure_imports
-- How each import of the imports file is: those that are scheduled, have an open run, or were started in the last week.
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
LEFT JOIN LATERAL (SELECT queued_at FROM import_runs AS run WHERE run.name = known.name
                   ORDER BY queued_at DESC FETCH FIRST ROW ONLY) AS newest ON true
LEFT JOIN LATERAL (SELECT state FROM import_runs AS run
                   WHERE run.name = known.name AND state IN ('done', 'unchanged', 'failed')
                   ORDER BY queued_at DESC FETCH FIRST ROW ONLY) AS ended ON true
LEFT JOIN LATERAL (SELECT finished_at FROM import_runs AS run
                   WHERE run.name = known.name AND state IN ('done', 'unchanged')
                   ORDER BY queued_at DESC FETCH FIRST ROW ONLY) AS succeeded ON true
WHERE position(' ' IN name) = 0
  AND (waiting.since IS NOT NULL OR newest.queued_at > now() - interval '7 days'
       OR EXISTS (SELECT FROM import_schedules WHERE import_schedules.name = known.name))
ORDER BY name

-- name: measure_schedules
-- Seconds since a beat saw to the schedule that it saw to longest ago; null where there is none.
SELECT extract(epoch FROM now() - min(looked_at))::double precision FROM import_schedules

-- name: look_at_schedules
-- Note that a beat lives and sees to these schedules; every few seconds is often enough.
UPDATE import_schedules SET looked_at = clock_timestamp()
WHERE name = ANY (%(names)s) AND looked_at < clock_timestamp() - interval '5 seconds'
