"""Errors of a database that is read-only, has not all tables and columns, or grants too little."""

from uuid import uuid4

from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.pool import create_pool
from tests.fix_storage import Connection, MakeNode, Node, execute, fail, make_pattern, succeed


async def test_a_read_only_database(node_with: MakeNode) -> None:
    async with node_with(default_transaction_read_only="on") as node:
        for operation, fields in (
            ("insert", {"data": make_pattern()}),
            ("batch_insert", {"patterns": [make_pattern()]}),
            ("delete", {"pattern_id": uuid4()}),
        ):
            result = await fail(node, operation, **fields)
            assert result.metadata["error_type"] == "server_unavailable"
            assert str(result.error).startswith("the database is read-only: cannot execute ")
        assert (await succeed(node, "query"))["count"] == 0


async def test_a_database_without_the_table(empty_database_url: str) -> None:
    async with create_pool(empty_database_url) as pool:
        node = NodePatternStorageEffect(pool)
        for operation, fields in (
            ("query", {}),
            ("insert", {"data": make_pattern()}),
            ("batch_insert", {"patterns": [make_pattern()]}),
        ):
            result = await fail(node, operation, **fields)
            assert result.metadata["error_type"] == "schema_mismatch"
            assert result.error == (
                "the database schema does not fit, run 'pattern-storage migrate': "
                'relation "pattern_templates" does not exist'
            )


async def test_a_table_without_a_column(node: Node, connection: Connection) -> None:
    await execute(connection, "ALTER TABLE pattern_templates DROP COLUMN source")
    result = await fail(node, "query")
    assert result.metadata["error_type"] == "schema_mismatch"
    assert 'column "source" does not exist' in str(result.error)


async def test_a_role_without_the_right(node_with: MakeNode) -> None:
    async with node_with(role="pg_read_all_data") as node:
        result = await fail(node, "insert", data=make_pattern())
        assert result.metadata["error_type"] == "schema_mismatch"
        assert "permission denied for table pattern_templates" in str(result.error)
        await succeed(node, "query")


async def test_a_role_that_may_not_see_the_parent(node_with: MakeNode, connection: Connection) -> None:
    """PostgreSQL then names no id: nothing is made up in its place, and no row of a batch is blamed."""
    await execute(
        connection,
        "GRANT INSERT, SELECT (id, pattern_name, pattern_type, language, created_at)"
        " ON pattern_templates TO pg_monitor",
    )
    async with node_with(role="pg_monitor") as node:
        await succeed(node, "insert", data=make_pattern())
        for operation, fields in (
            ("insert", {"data": make_pattern(parent_pattern_id=uuid4())}),
            ("batch_insert", {"patterns": [make_pattern(), make_pattern(parent_pattern_id=uuid4())]}),
        ):
            result = await fail(node, operation, **fields)
            assert result.metadata["error_type"] == "foreign_key_violation"
            assert str(result.error).startswith("Invalid reference (foreign key violation): insert or update on table")
            assert "failed_index" not in result.metadata
