"""Extensions of PostgreSQL that migrations use, wherever in the database they are installed."""

from alembic import op

OPERATOR_CLASS_SCHEMA = """
SELECT quote_ident(nspname)
FROM pg_opclass
JOIN pg_am ON pg_am.oid = opcmethod
JOIN pg_namespace ON pg_namespace.oid = opcnamespace
WHERE opcname = 'gin_trgm_ops' AND amname = 'gin'
"""


def trigram_operator_class() -> str:
    """Return the name, with its schema, of the operator class of a trigram index; installs pg_trgm where it is missing.

    An extension is in one schema of a database, which need not be in this installation's search_path.
    """
    # A trusted extension since PostgreSQL 13: no superuser needed.
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    schema = op.get_bind().exec_driver_sql(OPERATOR_CLASS_SCHEMA).scalar_one()
    return f"{schema}.gin_trgm_ops"
