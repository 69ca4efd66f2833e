-- Jobs that applications write in their own transactions; see storage/outbox.py.

-- name: add_jobs
-- Write jobs, in the caller's transaction. The clock, not now(): jobs of one transaction keep their order. One
-- placeholder and no operator that drivers take for one: any library can execute this.
INSERT INTO outbox (correlation_id, contract, options, publish_after)
SELECT correlation_id, contract, options,
       coalesce(due, clock_timestamp() + make_interval(secs => CAST(place - 1 AS float8) / 1e6))
FROM ROWS FROM (
    json_to_recordset(CAST(CAST(%(jobs)s AS text) AS json))
        AS (correlation_id uuid, contract json, options json, due timestamptz)
) WITH ORDINALITY AS job (correlation_id, contract, options, due, place)
ON CONFLICT (correlation_id) DO NOTHING
RETURNING CAST(correlation_id AS text)

-- name: outbox_contract
-- The contract of a row as JSON that can be read; null where it has a NUL, which PostgreSQL cannot read out of JSON.
(CASE WHEN strpos(outbox.contract::text, '\u0000') = 0 THEN outbox.contract END)

-- name: readable_contract
-- The same, read once however often it is used.
(SELECT {{outbox_contract}} AS contract OFFSET 0) AS readable

-- name: find_waiting_jobs
-- The contracts that stand under these ids.
SELECT CAST(correlation_id AS text), CAST(contract AS text)
FROM outbox
WHERE correlation_id IN (
    SELECT CAST(job AS uuid) FROM json_array_elements_text(CAST(CAST(%(jobs)s AS text) AS json)) AS job
)

-- name: claim_jobs
-- Lock the jobs that are due, the longest due first, no more than fit in memory. No relay waits for another.
-- Not EXISTS: PostgreSQL might read the whole ledger for that.
WITH due AS (
    SELECT correlation_id, contract, options, published, publish_after
    FROM outbox
    WHERE publish_after <= statement_timestamp()
    ORDER BY publish_after
    FETCH FIRST %(limit)s ROWS ONLY
    FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT *, sum(pg_column_size(contract)) OVER (ORDER BY publish_after, correlation_id)
              - pg_column_size(contract) AS bytes_before
    FROM due
)
SELECT correlation_id, contract::text AS contract, options,
       coalesce(
           published > 0 AND (SELECT TRUE FROM job_ledger WHERE job_ledger.correlation_id = sized.correlation_id),
           FALSE
       ) AS finished
FROM sized
WHERE bytes_before < %(size)s
ORDER BY publish_after, correlation_id

-- name: limit_claim
-- End this transaction if it stands still for so many milliseconds: a relay that froze must not keep its locks.
SELECT set_config('idle_in_transaction_session_timeout', %(milliseconds)s::text, true)

-- name: mark_published
-- Put the next publication off, twice as long each time up to 64 times: a slow queue is not a lost message.
UPDATE outbox
SET publish_after = clock_timestamp() + make_interval(secs => %(delay)s * 2 ^ least(published, 6)),
    published = published + 1
WHERE correlation_id = ANY (%(ids)s)

-- name: remove_jobs
-- Remove jobs that need no publication any more.
DELETE FROM outbox WHERE correlation_id = ANY (%(ids)s)

-- name: next_publication
-- Seconds until the next job is due; 0 or less where one is due now.
SELECT extract(epoch FROM min(publish_after) - statement_timestamp())::float8
FROM outbox

-- name: measure_outbox
-- How many jobs are in the outbox, how many of them were never published, and for how many seconds they are due.
SELECT count(*) AS jobs,
       count(*) FILTER (WHERE published = 0) AS unpublished,
       greatest(extract(epoch FROM statement_timestamp() - min(publish_after) FILTER (WHERE published = 0)), 0)::float8
           AS age
FROM outbox

-- name: enqueue_job
-- Write a job as an application in any language does.
SELECT enqueue_pattern_job(%(contract)s)
