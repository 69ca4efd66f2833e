"""Tables and columns for operators: columns of the ledger to list jobs by, pauses, retries, and the audit of actions.

Columns are added without a rewrite, old rows are described in steps, and indexes are built online: old workers go on
meanwhile. What they record until they are replaced is described by maintenance.sweep_outbox.
"""

from alembic import op

from pattern_storage.storage.migrations.online import add_columns, analyze, create_index, drop_index, repeat
from pattern_storage.storage.sql import block

revision = "pattern_storage_0007"
down_revision = "pattern_storage_0006"

TABLES = ("job_retries", "pauses", "audit_log", "import_progress")

UP = """
CREATE TABLE IF NOT EXISTS job_retries (
    correlation_id uuid PRIMARY KEY,
    retried_from   uuid NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE job_retries IS 'Failed jobs that an operator sent again under a new correlation id';
CREATE INDEX IF NOT EXISTS job_retries_retried_from ON job_retries (retried_from);

CREATE TABLE IF NOT EXISTS pauses (
    kind      text NOT NULL CHECK (kind IN ('queue', 'import')),
    name      text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    paused_by text NOT NULL,
    PRIMARY KEY (kind, name)
);
COMMENT ON TABLE pauses IS 'Queues that no worker takes from, and imports that beat does not start';

CREATE TABLE IF NOT EXISTS audit_log (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor  text NOT NULL,
    action text NOT NULL,
    filter jsonb NOT NULL,
    count  bigint NOT NULL
);
COMMENT ON COLUMN audit_log.filter IS 'What the action was about: ids, a name, or a filter';
CREATE INDEX IF NOT EXISTS audit_log_at ON audit_log (at);

-- Not a column of import_runs: older workers read all of its columns, and know no other.
CREATE TABLE IF NOT EXISTS import_progress (
    run_id     uuid PRIMARY KEY REFERENCES import_runs ON DELETE CASCADE,
    progress   jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

COLUMNS = {
    "job_ledger": (
        "state text", "operation text", "pattern_name text", "error_type text", "queue text", "worker text",
        "attempts smallint", "sent_at timestamptz", "duration_ms real", "errors jsonb", "contract json",
    ),
    "job_attempts": ("operation text", "pattern_name text", "queue text", "errors jsonb"),
    "dead_letters": ("operation text", "pattern_name text", "queue text", "errors jsonb"),
}  # fmt: skip

#: Names are random: an index in their order would change a page of its own for each job. In the order of time they are
#: found by reading that whole index, without its rows; docs/performance.md has what each index costs a job.
#: Nothing of a job that succeeded is in the partial ones: failures are few, and are looked for most.
INDEXES = {
    "job_ledger_finished_at_id": "(finished_at, correlation_id, hashtext(pattern_name))",
    "job_ledger_operation": "(operation, finished_at, correlation_id)",
    # Durations are random as well.
    "job_ledger_slow": "(duration_ms, correlation_id) WHERE duration_ms >= 100",
    "job_ledger_state": "(state, finished_at, correlation_id) WHERE state <> 'SUCCESS'",
    "job_ledger_error_type": "(error_type, finished_at, correlation_id) WHERE error_type IS NOT NULL",
}
UNDESCRIBED = "job_ledger_undescribed"

STEP = 2_000


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        add_columns(table, columns)
    create_index("job_ledger", UNDESCRIBED, "(finished_at) WHERE state IS NULL")
    described = repeat(block("describe_ledger"), {"step": STEP})
    repeat(block("describe_dead_letters"), {"step": STEP})
    for name, definition in INDEXES.items():
        create_index("job_ledger", name, definition)
    drop_index("job_ledger", "job_ledger_finished_at")
    if described:
        # Not an empty one: PostgreSQL would take it for one that stays empty.
        analyze("job_ledger")
    op.execute(UP)


def downgrade() -> None:
    create_index("job_ledger", "job_ledger_finished_at", "(finished_at)")
    for name in (*INDEXES, UNDESCRIBED):
        drop_index("job_ledger", name)
    for table, columns in COLUMNS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column.split()[0]}")
    for table in TABLES:
        op.execute(f"DROP TABLE IF EXISTS {table}")
