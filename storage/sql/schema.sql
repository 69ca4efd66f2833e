-- The version of the schema, and whether its tables are there; see storage/schema_version.py.

-- name: creation_schema
-- The schema that new tables go to, the first of the search_path that exists; null if there is none.
SELECT current_schema()

-- name: installed_schema
-- The schema of the tables that a worker would use; where there are none, the one that they would go to.
SELECT coalesce((SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE pg_class.oid = to_regclass('pattern_templates')), current_schema())

-- name: find_tables
-- Those of the given tables that a schema has.
SELECT relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relkind IN ('r', 'p') AND relname = ANY (%(tables)s::text[])

-- name: is_pattern_table
-- Whether a schema's pattern_templates has the columns of ours.
SELECT count(*) = cardinality(%(columns)s::text[]) FROM pg_attribute
JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname = 'pattern_templates' AND attname = ANY (%(columns)s::text[])

-- name: retire_alembic_version
-- Take our revision out of the table that an application's own Alembic may use.
DELETE FROM alembic_version WHERE version_num = %(revision)s

-- name: find_installation
-- What tells this installation's tables from those of any other: server, database and schema.
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
       (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('pattern_templates'))
