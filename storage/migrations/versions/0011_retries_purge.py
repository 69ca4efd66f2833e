"""An index by which links between jobs are forgotten, built online: a purge read all of them."""

from pattern_storage.storage.migrations.online import create_index, drop_index

revision = "pattern_storage_0011"
down_revision = "pattern_storage_0010"

INDEX = "job_retries_created_at"


def upgrade() -> None:
    create_index("job_retries", INDEX, "(created_at)")


def downgrade() -> None:
    drop_index("job_retries", INDEX)
