"""Timelines of jobs that have ended: when a message was claimed, and what was before a dead letter was replayed.

Both are columns that are added without a rewrite. Old workers go on: what they record has no such time.
"""

from alembic import op

from pattern_storage.storage.migrations.online import add_columns

revision = "pattern_storage_0009"
down_revision = "pattern_storage_0008"

DOWN = """
ALTER TABLE job_retries DROP COLUMN IF EXISTS errors;
ALTER TABLE job_ledger DROP COLUMN IF EXISTS claimed_at;
"""


def upgrade() -> None:
    add_columns("job_ledger", ("claimed_at timestamptz",))
    add_columns("job_retries", ("errors jsonb",))


def downgrade() -> None:
    op.execute(DOWN)
