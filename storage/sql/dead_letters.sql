-- Dead letters in pages; see storage/dead_letters.py.

-- name: page_dead_letters
-- Dead letters without their contracts, by id or by kind of error, the newest first, behind the one last seen.
-- A job in the ledger has ended: it is none.
SELECT correlation_id, died_at, pg_column_size(contract) AS size
FROM dead_letters
WHERE (%(ids)s::uuid[] IS NULL OR correlation_id = ANY (%(ids)s::uuid[]))
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
  AND (%(died_at)s::timestamptz IS NULL OR (died_at, correlation_id) < (%(died_at)s, %(correlation_id)s::uuid))
  AND NOT EXISTS (SELECT FROM job_ledger WHERE job_ledger.correlation_id = dead_letters.correlation_id)
ORDER BY died_at DESC, correlation_id DESC
FETCH FIRST %(limit)s ROWS ONLY
