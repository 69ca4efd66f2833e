"""The migration that describes the jobs of earlier versions."""

from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Json

from pattern_storage.storage import (
    ledger,
    schema,
)

OLD_RESULTS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    (
        {"success": True, "data": {"pattern_name": "x"}, "metadata": {"operation": "insert", "duration_ms": 2.5}},
        ("SUCCESS", "insert", "x", None, 2.5),
    ),
    (
        {"success": False, "error": "a", "metadata": {"operation": "update", "error_type": "validation_error"}},
        ("FAILURE", "update", None, "validation_error", None),
    ),
    ({"success": False, "metadata": {"error_type": "revoked"}}, ("REVOKED", None, None, "revoked", None)),
    ({"success": True, "data": "text", "metadata": {"duration_ms": "x"}}, ("SUCCESS", None, None, None, None)),
    ({"success": False, "error": "\x00"}, ("FAILURE", None, None, None, None)),
]


async def test_old_rows_are_described(empty_database_url: str) -> None:
    """Also what workers of the older release record after the migration, which goes on when it was killed half-way."""
    schema.upgrade(empty_database_url, "pattern_storage_0006")
    ids = [uuid4() for _ in OLD_RESULTS]
    insert = "INSERT INTO job_ledger (correlation_id, result) VALUES (%s, %s)"
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:
        for job, (result, _) in list(zip(ids, OLD_RESULTS, strict=True))[:-2]:
            await connection.execute(insert, [job, Json(result)])
        letter = Json({"operation": "insert", "data": {"pattern_name": "dead"}})
        await connection.execute(
            "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)"
            " SELECT gen_random_uuid(), contract, 'e', 'e', 1, now() FROM unnest(%s::json[]) AS contract",
            [[letter, Json("text"), Json({"operation": "\x00"})]],
        )
        await connection.execute("ALTER TABLE job_ledger ADD COLUMN state text")
        schema.upgrade(empty_database_url)
        for job, (result, _) in list(zip(ids, OLD_RESULTS, strict=True))[-2:]:
            await connection.execute(insert, [job, Json(result)])
        assert await ledger.describe(connection) == 2
        assert await ledger.describe(connection) == 0
        columns = "state, operation, pattern_name, error_type, duration_ms"
        for job, (_, expected) in zip(ids, OLD_RESULTS, strict=True):
            cursor = await connection.execute(
                f"SELECT {columns} FROM job_ledger WHERE correlation_id = %s".encode(), [job]
            )
            assert await cursor.fetchone() == expected
        cursor = await connection.execute("SELECT operation, pattern_name FROM dead_letters ORDER BY 1, 2")
        assert await cursor.fetchall() == [("", None), ("", None), ("insert", "dead")]
