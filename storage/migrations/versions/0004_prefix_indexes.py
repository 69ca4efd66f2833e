"""Indexes on category and created_by that stay fast as the table grows; docs/performance.md has the measurements.

The hash indexes they replace are quadratic: nearly all rows hold one value, and an insert walks that value's whole
chain of pages. A btree refuses texts over 2,704 bytes, so it holds the first hundred characters, in the default order
of a page. Built and dropped online: old workers go on meanwhile, and read more rows for these two filters.
"""

from alembic import op

from pattern_storage.storage.migrations.online import analyze, create_index, drop_index

revision = "pattern_storage_0004"
down_revision = "pattern_storage_0003"

TABLE = "pattern_templates"


def upgrade() -> None:
    # Not partial, though many rows may have no category: the planner ignores the statistics of a partial index.
    create_index(TABLE, "pattern_templates_category_created_at", "(left(category, 100), created_at, id)")
    create_index(TABLE, "pattern_templates_created_by_created_at", "(left(created_by, 100), created_at, id)")
    # Of the default hundred most common values a long tail of categories leaves none to tell a rare one by: PostgreSQL
    # would walk another order's index to the end for a category that does not exist.
    for index in ("pattern_templates_category_created_at", "pattern_templates_created_by_created_at"):
        op.execute(f"ALTER INDEX {index} ALTER COLUMN 1 SET STATISTICS 500")
    drop_index(TABLE, "pattern_templates_category")
    drop_index(TABLE, "pattern_templates_created_by")
    analyze(TABLE)


def downgrade() -> None:
    create_index(TABLE, "pattern_templates_category", "USING hash (category)")
    create_index(TABLE, "pattern_templates_created_by", "USING hash (created_by)")
    drop_index(TABLE, "pattern_templates_category_created_at")
    drop_index(TABLE, "pattern_templates_created_by_created_at")
