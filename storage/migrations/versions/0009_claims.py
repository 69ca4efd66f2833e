"""Timelines of jobs that have ended: when a worker claimed the message, a column of the ledger.

It is added without a rewrite, and old workers go on: what they record has no such time.
"""

from alembic import op

from pattern_storage.storage.migrations.online import add_columns

revision = "pattern_storage_0009"
down_revision = "pattern_storage_0008"


def upgrade() -> None:
    add_columns("job_ledger", ("claimed_at timestamptz",))


def downgrade() -> None:
    op.execute("ALTER TABLE job_ledger DROP COLUMN IF EXISTS claimed_at")
