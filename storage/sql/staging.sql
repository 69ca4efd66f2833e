-- The staging table of an import, and the indexes of a first load; see storage/staging.py and secondary_indexes.py.

-- name: create_staging
-- Staging table for the rows of one run; dropped at the end of the transaction.
CREATE TEMPORARY TABLE import_rows (
    file                  integer NOT NULL,
    line                  bigint NOT NULL,
    id                    uuid NOT NULL DEFAULT time_ordered_id(),
    pattern_name          text, pattern_type      text, language             text, category          text,
    template_code         text, description       text, example_usage        text, source            text,
    confidence_score      double precision, usage_count integer, success_rate double precision,
    complexity_score      integer, maintainability_score double precision, performance_score double precision,
    parent_pattern_id     uuid, is_deprecated boolean, created_by text, tags text[], context jsonb
) ON COMMIT DROP

-- name: copy_staging
-- Stream rows into the staging table.
COPY pg_temp.import_rows (file, line, {columns}) FROM STDIN WITH (FORMAT binary)

-- name: is_first_load
-- Whether there is no pattern yet.
SELECT NOT EXISTS (SELECT FROM pattern_templates)

-- name: copy_first_load
-- Stream rows into the patterns themselves: any conflict ends it.
COPY pattern_templates ({columns}) FROM STDIN WITH (FORMAT binary)

-- name: owns_patterns
-- Whether this role may drop the indexes of the patterns.
SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'pattern_templates'::regclass

-- name: list_secondary_indexes
-- Statements to drop each index that keeps no rule, and to create it as it is, an operator's own ones included.
SELECT format('DROP INDEX %s', indexrelid::regclass) AS drop,
       ARRAY[pg_get_indexdef(indexrelid)] || ARRAY(
           SELECT format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', indexrelid::regclass, attnum, attstattarget)
           FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0
       ) || ARRAY(
           SELECT format('COMMENT ON INDEX %s IS %L', indexrelid::regclass, description)
           FROM obj_description(indexrelid, 'pg_class') AS description WHERE description IS NOT NULL
       ) AS create
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = 'pattern_templates'::regclass AND indisvalid AND reltablespace = 0
  AND NOT (indisunique OR indisexclusion OR indisclustered OR indisreplident)

-- name: count_duplicates
-- Number of rows whose key an earlier row has.
SELECT coalesce(sum(rows - 1), 0)::bigint FROM (
    SELECT count(*) AS rows FROM pg_temp.import_rows GROUP BY pattern_name, pattern_type, language HAVING count(*) > 1
) AS repeated

-- name: find_duplicates
-- The first of them, and where the earlier row is.
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

-- name: drop_duplicates
-- Of rows with the same key keep the first, or the last.
DELETE FROM pg_temp.import_rows AS given
USING (SELECT pattern_name, pattern_type, language,
              CASE WHEN %(keep_first)s THEN min(ARRAY[file, line]) ELSE max(ARRAY[file, line]) END AS kept
       FROM pg_temp.import_rows GROUP BY 1, 2, 3 HAVING count(*) > 1) AS repeated
WHERE given.pattern_name = repeated.pattern_name AND given.pattern_type = repeated.pattern_type
  AND given.language = repeated.language AND ARRAY[given.file, given.line] <> repeated.kept

-- name: orphans
-- Rows whose parent does not exist.
pg_temp.import_rows AS given
WHERE parent_pattern_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM pattern_templates WHERE pattern_templates.id = given.parent_pattern_id)

-- name: count_orphans
-- Their number.
SELECT count(*) FROM {{orphans}}

-- name: find_orphans
-- The first of them.
SELECT file, line, parent_pattern_id FROM {{orphans}}
ORDER BY file, line
FETCH FIRST %(limit)s ROWS ONLY

-- name: remove_orphans
-- Delete them.
DELETE FROM {{orphans}}
RETURNING file, line, parent_pattern_id, to_jsonb(given) - 'file' - 'line' - 'id'

-- name: merge_new
-- Insert the rows whose key is free.
WITH merged AS (
    INSERT INTO pattern_templates (id, {columns})
    SELECT id, {columns} FROM pg_temp.import_rows
    ON CONFLICT (pattern_name, pattern_type, language) DO NOTHING
    RETURNING 1
)
SELECT count(*), 0 FROM merged

-- name: merge_all
-- Insert the rows whose key is free, update those that differ. A row that was inserted has no xmax.
WITH merged AS (
    INSERT INTO pattern_templates AS present (id, {columns})
    SELECT id, {columns} FROM pg_temp.import_rows
    ON CONFLICT (pattern_name, pattern_type, language) DO UPDATE
    SET {assignments}, updated_at = greatest(now(), present.updated_at + interval '1 microsecond')
    WHERE ({present}) IS DISTINCT FROM ({given})
    RETURNING (xmax = 0) AS inserted
)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM merged

-- name: existing
-- Rows whose key existed before the merge.
pg_temp.import_rows AS given
JOIN pattern_templates AS present USING (pattern_name, pattern_type, language)
WHERE present.id <> given.id

-- name: count_existing
-- Their number.
SELECT count(*) FROM {{existing}}

-- name: find_existing
-- The first of them.
SELECT given.file, given.line, pattern_name, pattern_type, language FROM {{existing}}
ORDER BY given.file, given.line
FETCH FIRST %(limit)s ROWS ONLY
