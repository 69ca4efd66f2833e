"""Scheduled imports: their history, and up to when each schedule has been decided."""

from alembic import op

revision = "pattern_storage_0003"
down_revision = "pattern_storage_0002"

TABLES = ("import_runs", "import_schedules")

UP = """
-- One row for every run. `plan` is what was asked for, so that a worker needs no file of ours to do it.
CREATE TABLE import_runs (
    run_id         uuid PRIMARY KEY,
    name           text NOT NULL,
    due            timestamptz,
    plan           jsonb NOT NULL,
    force          boolean NOT NULL DEFAULT false,
    state          text NOT NULL DEFAULT 'queued' CHECK (state IN (
                       'queued', 'running', 'done', 'unchanged', 'failed', 'overlapped', 'cancelled', 'missed')),
    queued_at      timestamptz NOT NULL DEFAULT now(),
    publish_after  timestamptz NOT NULL DEFAULT now(),
    published      integer NOT NULL DEFAULT 0,
    attempts       integer NOT NULL DEFAULT 0,
    started_at     timestamptz,
    finished_at    timestamptz,
    rows_read      bigint NOT NULL DEFAULT 0,
    rows_inserted  bigint NOT NULL DEFAULT 0,
    rows_updated   bigint NOT NULL DEFAULT 0,
    rows_skipped   bigint NOT NULL DEFAULT 0,
    rows_rejected  bigint NOT NULL DEFAULT 0,
    bytes          bigint NOT NULL DEFAULT 0,
    source_version text,
    error_type     text,
    error          text
);
COMMENT ON COLUMN import_runs.due IS 'The scheduled time; null for a run that somebody started by hand';
COMMENT ON COLUMN import_runs.force IS 'Whether to import a source that has not changed';
COMMENT ON COLUMN import_runs.publish_after IS 'When an unfinished run that no worker holds is put on the queue again';
COMMENT ON COLUMN import_runs.published IS 'Times it was put there since a worker last began it';
CREATE INDEX import_runs_name ON import_runs (name, queued_at);
CREATE INDEX import_runs_queued_at ON import_runs (queued_at);
CREATE INDEX import_runs_open ON import_runs (publish_after) WHERE finished_at IS NULL;

-- Due times up to `decided_until` have their run, or were skipped; two beats decide each of them once.
CREATE TABLE import_schedules (
    name          text PRIMARY KEY,
    decided_until timestamptz NOT NULL,
    looked_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN import_schedules.looked_at IS 'When a beat last saw to it: beat lives as long as this goes on';
"""

DOWN = """
DROP TABLE import_schedules;
DROP TABLE import_runs;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
