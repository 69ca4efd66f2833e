"""The outbox without NOTIFY: it made every commit of the cluster wait for one lock. Relays poll instead.

A relay of an older version still listens and hears nothing; it looks by itself every second.
"""

from alembic import op

revision = "pattern_storage_0005"
down_revision = "pattern_storage_0004"

UP = """
DROP TRIGGER outbox_notify ON outbox;
DROP FUNCTION notify_outbox;
"""

DOWN = """
CREATE FUNCTION notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pattern_storage_outbox', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION notify_outbox();
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
