"""Indexes in the order in which jobs that have not ended are listed: no page sorts a whole table.

Both are built online. The outbox's is the one that each of its jobs writes; docs/performance.md has what that costs.
"""

from pattern_storage.storage.migrations.online import create_index, drop_index

revision = "pattern_storage_0010"
down_revision = "pattern_storage_0009"

#: With the id: jobs that were written in one transaction have one time.
INDEXES = {
    "outbox_created_at": ("outbox", "(created_at, correlation_id)"),
    "job_attempts_first_at": ("job_attempts", "(first_at, correlation_id)"),
}


def upgrade() -> None:
    for name, (table, definition) in INDEXES.items():
        create_index(table, name, definition)


def downgrade() -> None:
    for name, (table, _) in INDEXES.items():
        drop_index(table, name)
