-- Advisory locks, and settings of the long transactions that hold them; see storage/import_locks.py, attempts.py and
-- schema.py.

-- name: lock_open_runs
-- Let all others who add a run of this import wait until this transaction ends.
SELECT pg_advisory_xact_lock(%(key)s)

-- name: lift_transaction_timeouts
-- Lift the limits that server, database or role set on a whole transaction (new in PostgreSQL 17) or on idling in one.
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')

-- name: set_keepalives
-- Set TCP keepalives for this transaction, where the server has them: it ends soon after its client's host vanishes.
SELECT set_config(wanted.name, wanted.setting, true)
FROM (VALUES ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
             ('tcp_user_timeout', '30000')) AS wanted (name, setting)
JOIN pg_settings USING (name)

-- name: set_client_check
-- Check the client during a statement too, which does not read from it. New in PostgreSQL 14.
SELECT set_config(name, '5s', true) FROM pg_settings WHERE name = 'client_connection_check_interval'

-- name: try_lock
-- Try to take an advisory lock until the transaction ends.
SELECT pg_try_advisory_xact_lock(%(key)s)

-- name: held_locks
-- Keys of all advisory locks held in this database.
SELECT (classid::bigint << 32) | objid::bigint
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
