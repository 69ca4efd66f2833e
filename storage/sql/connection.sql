-- What every session says for itself; see storage/connection.py.

-- name: set_up_session
-- How values are written, which our code reads; and time-outs, unless the user's connection has its own.
SELECT set_config('datestyle', 'ISO, MDY', false),
       set_config('intervalstyle', 'postgres', false),
       set_config('timezone', 'UTC', false),
       set_config('extra_float_digits', '1', false),
       (SELECT count(set_config(name, wanted.value, false))
        FROM (VALUES ('statement_timeout', %(statement_timeout)s::text), ('lock_timeout', %(lock_timeout)s::text))
             AS wanted (name, value)
        JOIN pg_settings USING (name)
        WHERE wanted.value IS NOT NULL AND pg_settings.source <> 'client')
