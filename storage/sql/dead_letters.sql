-- Dead letters; see storage/dead_letters.py and dead_letter_pages.py. A job that is in the ledger has ended, and is none.

-- name: add_dead_letter
-- Keep a job that ran out of attempts, unless it is finished: one of them may have ended after all. The last of them is
-- none that another follows, and is noted here.
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s RETURNING first_at, errors),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s)
INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, operation, pattern_name,
                          queue, errors)
SELECT %(correlation_id)s, %(contract)s, %(error_type)s::text, %(error)s::text, %(attempts)s,
       coalesce((SELECT first_at FROM delivered), now()), %(operation)s, %(pattern_name)s, %(queue)s,
       coalesce((SELECT errors FROM delivered), '[]') || %(attempt)s::jsonb
WHERE NOT EXISTS (SELECT FROM job_ledger WHERE correlation_id = %(correlation_id)s)
ON CONFLICT (correlation_id) DO UPDATE
SET error_type = excluded.error_type, error = excluded.error, attempts = excluded.attempts, died_at = now(),
    errors = excluded.errors

-- name: move_outbox_job_to_dead_letters
-- Turn a row of the outbox that no worker could take into a dead letter.
WITH refused AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s RETURNING *)
INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)
SELECT correlation_id, contract, %(error_type)s, %(error)s, published, created_at FROM refused
ON CONFLICT (correlation_id) DO UPDATE
SET error_type = excluded.error_type, error = excluded.error, attempts = excluded.attempts, died_at = now()

-- name: letter_is_open
-- Whether the job of a dead letter has not ended after all. Not NOT EXISTS: PostgreSQL would join both tables as a whole
-- for the sake of one page.
(SELECT true FROM job_ledger WHERE job_ledger.correlation_id = dead_letters.correlation_id) IS NULL

-- name: dead_letter_reason
-- The reason of a dead letter without what differs from job to job: quoted values, ids and numbers. It can be a
-- parameter of a URL: of 255 characters at most, and without those that a browser or Tornado would change.
btrim(left(regexp_replace(
    regexp_replace(left(error, 300),
                   '''[^'']*''|"[^"]*"|\(.*\)|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[[:cntrl:]]+', '…', 'g'),
    '[0-9]+([.][0-9]+)?', '…', 'g'), 255))

-- name: letter_matches
-- The filter of all lists.
(%(ids)s::uuid[] IS NULL OR correlation_id = ANY (%(ids)s::uuid[]))
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
  AND (%(operation)s::text IS NULL OR operation = %(operation)s)
  AND (%(pattern_name)s::text IS NULL OR pattern_name = %(pattern_name)s)
  AND (%(reason)s::text IS NULL OR {{dead_letter_reason}} = %(reason)s)
  AND (%(since)s::timestamptz IS NULL OR died_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR died_at <= %(until)s)
  AND {{letter_is_open}}

-- name: page_of_letters
-- A page of them, the newest first, behind the one last seen.
FROM dead_letters
WHERE {{letter_matches}}
  AND (%(after)s::timestamptz IS NULL OR (died_at, correlation_id) < (%(after)s, %(after_id)s::uuid))
ORDER BY died_at DESC, correlation_id DESC
FETCH FIRST %(limit)s ROWS ONLY

-- name: page_dead_letters
-- Dead letters without their contracts.
SELECT correlation_id, died_at, pg_column_size(contract) AS size {{page_of_letters}}

-- name: list_letters
-- Dead letters with the beginning of their contracts, read as texts alone: an application may have written one with SQL
-- that PostgreSQL cannot read as JSON.
SELECT correlation_id, left(contract::text, %(characters)s) AS beginning, octet_length(contract::text) AS size,
       error_type, error, attempts, first_at, died_at
{{page_of_letters}}

-- name: end_of_letter_search
-- When the last letter died that a search looks at, if there are so many.
SELECT died_at FROM dead_letters
WHERE (%(since)s::timestamptz IS NULL OR died_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR died_at <= %(until)s)
  AND (%(after)s::timestamptz IS NULL OR (died_at, correlation_id) < (%(after)s, %(after_id)s::uuid))
ORDER BY died_at DESC
OFFSET %(searched)s
FETCH FIRST ROW ONLY

-- name: letter_groups
-- The newest dead letters by error type and reason, the largest groups first.
SELECT error_type, {{dead_letter_reason}} AS reason, count(*) AS letters, min(died_at) AS first, max(died_at) AS last
FROM (SELECT error_type, error, died_at FROM dead_letters
      WHERE {{letter_is_open}}
      ORDER BY died_at DESC
      FETCH FIRST %(newest)s ROWS ONLY) AS dead_letters
GROUP BY 1, 2
ORDER BY letters DESC, last DESC
FETCH FIRST %(limit)s ROWS ONLY

-- name: fetch_dead_letters
-- Dead letters with their contracts, all or by id, the newest first.
SELECT correlation_id, contract::text AS contract, error_type, error, attempts, first_at, died_at
FROM dead_letters
WHERE (%(ids)s::uuid[] IS NULL OR correlation_id = ANY (%(ids)s::uuid[])) AND {{letter_is_open}}
ORDER BY died_at DESC
FETCH FIRST %(limit)s ROWS ONLY

-- name: count_dead_letters
-- Number of dead letters that a filter lets through, counted up to a limit.
SELECT count(*) FROM (SELECT FROM dead_letters WHERE {{letter_matches}} FETCH FIRST %(limit)s ROWS ONLY) AS found

-- name: note_replay
-- Keep what was known of dead letters that are replayed: a job that has ended clears its own.
INSERT INTO job_retries (correlation_id, retried_from, errors)
SELECT correlation_id, correlation_id,
       coalesce(errors, '[]')
       || jsonb_build_object('at', died_at, 'what', 'DEAD', 'error_type', error_type, 'error', left(error, 2000))
       || jsonb_build_object('at', clock_timestamp(), 'what', 'replayed')
FROM dead_letters WHERE correlation_id = ANY (%(ids)s)
ON CONFLICT (correlation_id) DO UPDATE SET errors = coalesce(job_retries.errors, '[]') || excluded.errors

-- name: discard_dead_letters
-- Remove dead letters for good.
DELETE FROM dead_letters WHERE correlation_id = ANY (%(ids)s)

-- name: purge_finished_dead_letters
-- Remove dead letters of jobs that ended after all: one delivery was given up while another was committing. What died
-- long before the ledger begins ended before that, if it did, and was removed then.
DELETE FROM dead_letters
WHERE died_at > now() - make_interval(days => %(days)s + 1)
  AND EXISTS (SELECT FROM job_ledger WHERE job_ledger.correlation_id = dead_letters.correlation_id)

-- name: describe_dead_letters
-- Fill the columns to list dead letters by, a step at a time. An application may have written any JSON with SQL.
WITH undescribed AS (
    SELECT correlation_id FROM dead_letters WHERE operation IS NULL
    ORDER BY died_at FETCH FIRST %(step)s ROWS ONLY FOR UPDATE SKIP LOCKED
), read AS (
    SELECT correlation_id, contract, strpos(contract::text, '\u0000') = 0 AND json_typeof(contract) = 'object' AS readable
    FROM undescribed JOIN dead_letters USING (correlation_id)
)
UPDATE dead_letters
SET operation = coalesce(CASE WHEN readable THEN left(read.contract ->> 'operation', 30) END, ''),
    pattern_name = CASE WHEN readable THEN left(read.contract #>> '{data,pattern_name}', 1000) END
FROM read
WHERE dead_letters.correlation_id = read.correlation_id
