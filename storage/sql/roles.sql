-- Roles that do the work without being able to change the schema; see storage/roles.py.

-- name: role_exists
-- Whether there is such a role, and the schema that our tables are in.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s), current_schema()

-- name: grant_rights
-- All that a worker, a relay, beat and a client need, and nothing that changes a table's shape.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE
    ON pattern_templates, job_ledger, job_attempts, dead_letters, outbox, import_runs, import_schedules, job_retries,
       pauses, import_progress TO {role};
GRANT SELECT, INSERT ON audit_log TO {role};
GRANT SELECT ON pattern_storage_version TO {role};
GRANT EXECUTE ON FUNCTION enqueue_pattern_job(jsonb, jsonb), time_ordered_id() TO {role};

-- name: can_write
-- Whether this role, on this server, can do what jobs do.
SELECT NOT pg_is_in_recovery()
   AND current_setting('transaction_read_only') = 'off'
   AND has_table_privilege('pattern_templates', 'SELECT, INSERT, UPDATE, DELETE')
   AND has_table_privilege('job_ledger', 'INSERT')
