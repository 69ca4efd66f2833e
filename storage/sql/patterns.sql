-- Every statement that touches pattern_templates, in named blocks; storage/sql/__init__.py loads them.
-- {columns}, {assignments} and {filters} are filled from our own lists (storage/pattern.py), never from a caller's text.

-- name: insert_pattern
-- Write one pattern; no row comes back if its (pattern_name, pattern_type, language) is taken.
INSERT INTO pattern_templates ({columns})
VALUES ({values})
ON CONFLICT (pattern_name, pattern_type, language) DO NOTHING
RETURNING id, pattern_name, created_at

-- name: insert_patterns
-- Write the inserts of a group; those whose (pattern_name, pattern_type, language) is taken do not come back, also
-- where an earlier one of the same group took it. Their columns as they were given ($2), and their ids ($3) in that order.
WITH written AS (
    INSERT INTO pattern_templates (id, {columns})
    SELECT unnest, {columns}
    FROM ROWS FROM (
        json_populate_recordset(json_populate_record(NULL::pattern_templates, {defaults}), $2::json),
        unnest($3::uuid[]))
    ON CONFLICT (pattern_name, pattern_type, language) DO NOTHING
    RETURNING id,
              json_build_object('pattern_id', id, 'pattern_name', pattern_name, 'created_at',
                                to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS data,
              NULL::text AS present
)

-- name: update_pattern_in_group
-- Change the given columns of one pattern, whose new values are JSON ($2), if it was last updated at the expected time
-- ($4) or none is expected; see update_pattern.
WITH present AS (
    SELECT id, updated_at FROM pattern_templates WHERE id = $3::uuid FOR NO KEY UPDATE
), changed AS (
    UPDATE pattern_templates AS pattern
    SET {assignments}, updated_at = greatest(now(), pattern.updated_at + interval '1 microsecond')
    FROM present, json_populate_record(NULL::pattern_templates, $2::json) AS new
    WHERE pattern.id = $3::uuid AND present.updated_at = coalesce(nullif($4, '')::timestamptz, present.updated_at)
    RETURNING pattern.id, pattern.pattern_name, pattern.updated_at
), written AS (
    SELECT present.id,
           CASE WHEN changed.id IS NOT NULL THEN json_build_object(
               'pattern_id', changed.id, 'pattern_name', changed.pattern_name, 'updated_at',
               to_char(changed.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               'fields_updated', $5::json) END AS data,
           to_char(present.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS present
    FROM present LEFT JOIN changed USING (id)
)

-- name: delete_pattern_in_group
-- Remove one pattern ($2) if it was last updated at the expected time ($3) or none is expected.
WITH present AS (
    SELECT id, updated_at FROM pattern_templates WHERE id = $2::uuid FOR UPDATE
), gone AS (
    DELETE FROM pattern_templates AS pattern
    USING present
    WHERE pattern.id = $2::uuid AND present.updated_at = coalesce(nullif($3, '')::timestamptz, present.updated_at)
    RETURNING pattern.id, pattern.pattern_name
), written AS (
    SELECT present.id,
           CASE WHEN gone.id IS NOT NULL THEN json_build_object(
               'pattern_id', gone.id, 'pattern_name', gone.pattern_name, 'deleted', true) END AS data,
           to_char(present.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS present
    FROM present LEFT JOIN gone USING (id)
)

-- name: no_pattern
-- Touch no pattern, as jobs do whose contract is refused.
WITH written AS (SELECT NULL::uuid AS id, NULL::json AS data, NULL::text AS present WHERE false)

-- name: copy_patterns
-- Write a batch: the fastest of four ways (bench/batch_insert.py), and its error names the line that failed.
COPY pattern_templates (id, {columns}) FROM STDIN

-- name: update_pattern
-- Change the given columns of one pattern, if it was last updated at the expected time or none is expected; return its
-- name, and when it was last updated before. Each update has a later time than the one before: transactions may begin at
-- the same moment or commit in another order, and a group is one transaction. The pattern is locked first: after waiting
-- for somebody else's update, PostgreSQL reads what that has written. As an UPDATE alone does, it waits for no transaction
-- that inserts patterns with this parent: the lock of their foreign key is on the id.
WITH present AS (
    SELECT id, updated_at FROM pattern_templates WHERE id = %(id)s FOR NO KEY UPDATE
), written AS (
    UPDATE pattern_templates
    SET {assignments}, updated_at = greatest(now(), pattern_templates.updated_at + interval '1 microsecond')
    FROM present
    WHERE pattern_templates.id = present.id AND present.updated_at = coalesce(%(expect)s, present.updated_at)
    RETURNING pattern_templates.id, pattern_templates.pattern_name, pattern_templates.updated_at
)
SELECT written.id, written.pattern_name, written.updated_at, present.updated_at AS present_updated_at
FROM present LEFT JOIN written ON written.id = present.id

-- name: delete_pattern
-- Remove one pattern, if it was last updated at the expected time or none is expected; return its name, and when it was
-- last updated.
WITH present AS (
    SELECT id, updated_at FROM pattern_templates WHERE id = %(id)s FOR UPDATE
), gone AS (
    DELETE FROM pattern_templates
    USING present
    WHERE pattern_templates.id = present.id AND present.updated_at = coalesce(%(expect)s, present.updated_at)
    RETURNING pattern_templates.id, pattern_templates.pattern_name
)
SELECT gone.id, gone.pattern_name, present.updated_at AS present_updated_at
FROM present LEFT JOIN gone ON gone.id = present.id

-- name: query_patterns
-- One page of patterns, ordered by a column and then by id, so that a cursor can name a place in it. It ends early
-- where it would be too large: octet_length of a text knows the size without reading it.
WITH page AS (
    SELECT {columns},
           octet_length(template_code) + coalesce(octet_length(description), 0) + coalesce(octet_length(source), 0)
           + coalesce(octet_length(example_usage), 0) + coalesce(octet_length(category), 0) + octet_length(created_by)
           + octet_length(context::text) AS bytes
    FROM pattern_templates
    WHERE {filters}
    ORDER BY {order} {direction}, id {direction}
    FETCH FIRST %(fetch)s ROWS ONLY
), sized AS (
    SELECT *, count(*) OVER () AS found,
           sum(bytes) OVER (ORDER BY {order} {direction}, id {direction}) - bytes AS bytes_before
    FROM page
)
SELECT {columns}, found
FROM sized
WHERE bytes_before < %(bytes)s
ORDER BY {order} {direction}, id {direction}

-- name: set_limits
-- Limit every statement of this transaction, and of no other: its time, and its waiting for locks.
SELECT set_config('statement_timeout', coalesce(%(statement)s::text, current_setting('statement_timeout')), true),
       set_config('lock_timeout', coalesce(%(lock)s::text, current_setting('lock_timeout')), true)
