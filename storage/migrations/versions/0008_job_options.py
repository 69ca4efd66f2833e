"""Options of jobs in the outbox: priority, expiry and queue in a column; a delay is when the row is due.

Older applications go on writing rows without options, and calling the function with one argument.
"""

from alembic import op

from pattern_storage.storage.migrations.online import add_columns

revision = "pattern_storage_0008"
down_revision = "pattern_storage_0007"

UP = """
DROP FUNCTION IF EXISTS enqueue_pattern_job(jsonb);
CREATE OR REPLACE FUNCTION enqueue_pattern_job(contract jsonb, options jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    job     uuid;
    present jsonb;
    option  text;
    due     timestamptz := clock_timestamp();
    ends    timestamptz;
BEGIN
    IF contract IS NULL OR jsonb_typeof(contract) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('contract should be a JSON object, got %s', coalesce(jsonb_typeof(contract), 'NULL'));
    END IF;
    IF coalesce(contract ->> 'operation', '') NOT IN ('insert', 'update', 'delete', 'batch_insert') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('operation is %s; it should be insert, update, delete or batch_insert',
                             coalesce(contract ->> 'operation', 'missing'));
    END IF;
    BEGIN
        job := coalesce((contract ->> 'correlation_id')::uuid, gen_random_uuid());
    EXCEPTION WHEN invalid_text_representation THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('correlation_id is %s; it should be a UUID', contract ->> 'correlation_id');
    END;
    contract := contract || jsonb_build_object('correlation_id', job);
    options := nullif(nullif(jsonb_strip_nulls(options), 'null'), '{}');
    IF options IS NOT NULL THEN
        IF jsonb_typeof(options) <> 'object' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('options should be a JSON object, got %s', jsonb_typeof(options));
        END IF;
        FOR option IN SELECT jsonb_object_keys(options) LOOP
            IF option NOT IN ('priority', 'delay', 'eta', 'expires', 'queue') THEN
                RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                    MESSAGE = format('unknown option %s; known are priority, delay, eta, expires, queue', option);
            END IF;
        END LOOP;
        IF coalesce(options ->> 'priority', 'normal') NOT IN ('urgent', 'normal', 'low', 'lowest') THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('priority is %s; it should be urgent, normal, low or lowest', options ->> 'priority');
        END IF;
        IF coalesce(options ->> 'queue', 'storage') !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('queue is %s; it should be a name of letters, digits and _.-', options ->> 'queue');
        END IF;
        BEGIN
            ends := CASE jsonb_typeof(options -> 'expires')
                WHEN 'number' THEN due + make_interval(secs => (options ->> 'expires')::float8)
                ELSE (options ->> 'expires')::timestamptz
            END;
            due := coalesce(
                (options ->> 'eta')::timestamptz, due + make_interval(secs => (options ->> 'delay')::float8), due
            );
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format(
                'delay should be seconds, eta a moment, expires either; got delay %s, eta %s, expires %s',
                options ->> 'delay', options ->> 'eta', options ->> 'expires'
            );
        END;
        options := nullif(jsonb_strip_nulls(jsonb_build_object(
            'priority', nullif(options ->> 'priority', 'normal'),
            'expires', to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
            'queue', options ->> 'queue'
        )), '{}');
    END IF;
    INSERT INTO outbox (correlation_id, contract, options, publish_after)
    VALUES (job, contract::json, options, due)
    ON CONFLICT (correlation_id) DO NOTHING;
    IF NOT FOUND THEN
        -- The same again changes nothing; a row that is gone by now was done.
        SELECT outbox.contract::jsonb INTO present FROM outbox WHERE correlation_id = job;
        IF present <> contract THEN
            RAISE EXCEPTION USING ERRCODE = 'unique_violation',
                MESSAGE = format('Correlation id %s belongs to another request; use a new one', job);
        END IF;
    END IF;
    RETURN job;
END
$$;
COMMENT ON FUNCTION enqueue_pattern_job IS
    'Write a pattern-storage job, with options if need be, in this transaction; return its id';
"""

DOWN = """
DROP FUNCTION enqueue_pattern_job;
CREATE FUNCTION enqueue_pattern_job(contract jsonb) RETURNS uuid
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    job     uuid;
    present jsonb;
BEGIN
    IF contract IS NULL OR jsonb_typeof(contract) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('contract should be a JSON object, got %s', coalesce(jsonb_typeof(contract), 'NULL'));
    END IF;
    IF coalesce(contract ->> 'operation', '') NOT IN ('insert', 'update', 'delete', 'batch_insert') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('operation is %s; it should be insert, update, delete or batch_insert',
                             coalesce(contract ->> 'operation', 'missing'));
    END IF;
    BEGIN
        job := coalesce((contract ->> 'correlation_id')::uuid, gen_random_uuid());
    EXCEPTION WHEN invalid_text_representation THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('correlation_id is %s; it should be a UUID', contract ->> 'correlation_id');
    END;
    contract := contract || jsonb_build_object('correlation_id', job);
    INSERT INTO outbox (correlation_id, contract, publish_after)
    VALUES (job, contract::json, clock_timestamp())
    ON CONFLICT (correlation_id) DO NOTHING;
    IF NOT FOUND THEN
        -- The same again changes nothing; a row that is gone by now was done.
        SELECT outbox.contract::jsonb INTO present FROM outbox WHERE correlation_id = job;
        IF present <> contract THEN
            RAISE EXCEPTION USING ERRCODE = 'unique_violation',
                MESSAGE = format('Correlation id %s belongs to another request; use a new one', job);
        END IF;
    END IF;
    RETURN job;
END
$$;
COMMENT ON FUNCTION enqueue_pattern_job IS 'Write a pattern-storage job in this transaction; return its id';
ALTER TABLE outbox DROP COLUMN options;
"""


def upgrade() -> None:
    add_columns("outbox", ("options jsonb",))
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
