-- Dead letters for an operator's pages; see storage/dead_letter_pages.py. Their contracts are read as texts alone: an
-- application may have written one with SQL that PostgreSQL cannot read as JSON.

-- name: dead_letter_reason
-- The reason of a dead letter without what differs from job to job: quoted values, ids and numbers.
regexp_replace(
    regexp_replace(left(error, 300), '''[^'']*''|"[^"]*"|\(.*\)|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '…', 'g'),
    '[0-9]+([.][0-9]+)?', '…', 'g')

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

-- name: list_letters
-- A page of dead letters with the beginning of their contracts, the newest first, behind the one last seen.
SELECT correlation_id, left(contract::text, %(characters)s) AS beginning, octet_length(contract::text) AS size,
       error_type, error, attempts, first_at, died_at
FROM dead_letters
WHERE {{letter_matches}}
  AND (%(after)s::timestamptz IS NULL OR (died_at, correlation_id) < (%(after)s, %(after_id)s::uuid))
ORDER BY died_at DESC, correlation_id DESC
FETCH FIRST %(limit)s ROWS ONLY

-- name: count_letters
-- Number of dead letters that a filter lets through.
SELECT count(*) FROM dead_letters WHERE {{letter_matches}}

-- name: letter_ids
-- Their ids.
SELECT correlation_id FROM dead_letters WHERE {{letter_matches}}
ORDER BY died_at, correlation_id FETCH FIRST %(limit)s ROWS ONLY

-- name: letter_matches
-- The filter itself.
(%(correlation_id)s::uuid IS NULL OR correlation_id = %(correlation_id)s)
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
  AND (%(operation)s::text IS NULL OR operation = %(operation)s)
  AND (%(pattern_name)s::text IS NULL OR pattern_name = %(pattern_name)s)
  AND (%(reason)s::text IS NULL OR {{dead_letter_reason}} = %(reason)s)
  AND (%(since)s::timestamptz IS NULL OR died_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR died_at <= %(until)s)
  AND {{letter_is_open}}
