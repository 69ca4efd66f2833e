-- What every session says for itself; see storage/connection.py.

-- name: set_up_session
-- How values are written, which our code reads; and time-outs, unless the user's connection has its own. None for idle
-- sessions: pooled connections are idle by nature, and each job after a quiet time would find its own gone.
SELECT set_config('datestyle', 'ISO, MDY', false),
       set_config('intervalstyle', 'postgres', false),
       set_config('timezone', 'UTC', false),
       set_config('extra_float_digits', '1', false),
       (SELECT count(set_config(name, wanted.value, false))
        FROM (VALUES ('statement_timeout', %(statement_timeout)s::text), ('lock_timeout', %(lock_timeout)s::text),
                     ('idle_session_timeout', '0'))
             AS wanted (name, value)
        JOIN pg_settings USING (name)
        WHERE wanted.value IS NOT NULL AND pg_settings.source <> 'client')

-- name: set_up_group_session
-- Limit what every statement of a session of groups waits for locks, and have each planned once: all find their rows by
-- keys. See discard_plans.
SELECT set_config('lock_timeout', %(lock)s::text, false), set_config('plan_cache_mode', 'force_generic_plan', false)

-- name: discard_plans
-- Plan the session's statements anew when they come next: a plan that was made while a table was small may read all of
-- it when it has grown, and PostgreSQL keeps it until the table's next ANALYZE.
DISCARD PLANS

-- name: limit_group
-- Limit every statement of a group's transaction, in milliseconds: its time, and its waiting for locks.
SELECT set_config('statement_timeout', $1::text, true), set_config('lock_timeout', $2::text, true)

-- name: find_transaction_timeout
-- Milliseconds after which the server ends a transaction, however it goes on; new in PostgreSQL 17.
SELECT setting::bigint FROM pg_settings WHERE name = 'transaction_timeout' AND setting::bigint > 0
