"""Ledger, attempts, dead letters and outbox: the tables by which every job happens exactly once."""

from alembic import op

revision = "pattern_storage_0002"
down_revision = "pattern_storage_0001"

TABLES = ("job_ledger", "job_attempts", "dead_letters", "outbox")

UP = """
-- One row for every finished write, in the transaction of its effect. The primary key is the guarantee:
-- whoever comes second with a correlation id fails here, and everything it did rolls back.
CREATE TABLE job_ledger (
    correlation_id uuid PRIMARY KEY,
    fingerprint    bytea,
    result         json NOT NULL,
    finished_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN job_ledger.fingerprint IS 'SHA-256 of what was asked for; null for a job that was cancelled';
CREATE INDEX job_ledger_finished_at ON job_ledger (finished_at);

-- Deliveries after the first. Almost always empty: a job that is done at once leaves no row here.
CREATE TABLE job_attempts (
    correlation_id uuid PRIMARY KEY,
    deliveries     integer NOT NULL DEFAULT 1,
    first_at       timestamptz NOT NULL DEFAULT now()
);

-- Jobs that ran out of attempts, kept until someone replays or discards them.
CREATE TABLE dead_letters (
    correlation_id uuid PRIMARY KEY,
    contract       json NOT NULL,
    error_type     text NOT NULL,
    error          text NOT NULL,
    attempts       integer NOT NULL,
    first_at       timestamptz NOT NULL,
    died_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letters_died_at ON dead_letters (died_at);

-- Jobs written in an application's own transaction. A row goes when its effect commits.
CREATE TABLE outbox (
    correlation_id uuid PRIMARY KEY,
    contract       json NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    publish_after  timestamptz NOT NULL DEFAULT now(),
    published      integer NOT NULL DEFAULT 0
);
CREATE INDEX outbox_publish_after ON outbox (publish_after);

-- Relays listen. A notification is sent when the transaction commits, one however many rows it wrote.
CREATE FUNCTION notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pattern_storage_outbox', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION notify_outbox();

-- For applications in any language. The search path is fixed, so that a caller's own has no say in which outbox.
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
"""

DOWN = """
DROP FUNCTION enqueue_pattern_job;
DROP TABLE outbox;
DROP FUNCTION notify_outbox;
DROP TABLE dead_letters;
DROP TABLE job_attempts;
DROP TABLE job_ledger;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
