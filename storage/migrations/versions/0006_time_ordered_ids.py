"""Ids of new patterns that ascend in time: neighbours in time are neighbours in every index that ends with the id.

Random ids change a random page of the primary key and of three indexes on scores with every insert, so that inserts
get slower as these outgrow the cache; docs/performance.md has the measurement. UUIDs of version 7 as RFC 9562 has them;
PostgreSQL 18 could make them itself, 13 to 17 cannot.
"""

from alembic import op

revision = "pattern_storage_0006"
down_revision = "pattern_storage_0005"

UP = """
CREATE FUNCTION time_ordered_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid
$$;
COMMENT ON FUNCTION time_ordered_id IS 'A UUID of version 7: 48 bits of milliseconds, 74 random ones';
ALTER TABLE pattern_templates ALTER COLUMN id SET DEFAULT time_ordered_id();
"""

DOWN = """
ALTER TABLE pattern_templates ALTER COLUMN id SET DEFAULT gen_random_uuid();
DROP FUNCTION time_ordered_id;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
