"""Costs of ledger, outbox, dead letters, history and their purges, see `growth_costs`."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from psycopg import AsyncConnection

from bench.growth_costs import CALLS, Call, cost, cpu
from pattern_storage import ModelContractPatternStorage
from pattern_storage.storage import ModelResult, attempts, dead_letters, import_runs, job_retries, ledger, outbox

STEP = 100


async def bookkeeping(connection: AsyncConnection, pid: int) -> AsyncIterator[tuple[str, float]]:
    """Yield what ledger, outbox, dead letters and history cost."""
    result = ModelResult(success=True, data={"x": "x" * 200}, metadata={})
    yield (
        "ledger row",
        await cost(pid, lambda: ledger.record_result(connection, uuid4(), b"x" * 32, result, "x"), 5 * CALLS),
    )
    async with connection.transaction(force_rollback=True):
        # What is gone could not be purged in the next round.
        each = await cost(pid, lambda: ledger.purge(connection, days=30, step=STEP), 4) / STEP
    yield "ledger purge, a row", each

    async def cancel() -> None:
        await ledger.cancel(connection, uuid4())

    yield "cancel", await cost(pid, cancel)

    async def purge(table: str, columns: str, values: str, call: Call) -> float:
        spent = 0
        for _ in range(10):
            await connection.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {STEP})".encode()
            )
            before = cpu(pid)
            await call()
            spent += cpu(pid) - before
        return spent / 10 / STEP / 1000

    old = "gen_random_uuid(), now() - interval '90 days'"
    yield (
        "attempts purge, a row",
        await purge("job_attempts", "correlation_id, first_at", old, lambda: attempts.purge(connection, days=30)),
    )
    yield (
        "retries purge, a row",
        await purge(
            "job_retries", "retried_from, created_at, correlation_id", f"{old}, gen_random_uuid()",
            lambda: job_retries.purge(connection, days=30),
        ),
    )  # fmt: skip
    yield "relay poll", await cost(pid, lambda: outbox.next_publication(connection))
    yield "claim that finds nothing", await cost(pid, lambda: outbox.claim(connection))
    job: dict[str, Any] = {"operation": "delete", "pattern_id": str(uuid4())}

    async def pass_through() -> None:
        asked = ModelContractPatternStorage(**job)
        async with connection.transaction():
            await outbox.add(connection, asked)
        async with connection.transaction():
            await outbox.claim(connection)
            await outbox.mark_published(connection, [asked.correlation_id], delay=60)
        await outbox.remove(connection, [asked.correlation_id])

    yield "outbox row, from start to end", await cost(pid, pass_through)
    pages = await dead_letters.page(connection, limit=500)
    yield "dead letters, a page", await cost(pid, lambda: dead_letters.page(connection, limit=50))
    yield (
        "dead letters, a later page",
        await cost(pid, lambda: dead_letters.page(connection, after=pages[-1], limit=50)),
    )
    letters = await dead_letters.count(connection, limit=None)
    yield (
        "dead letters of ended jobs, a letter",
        await cost(pid, lambda: dead_letters.purge_finished(connection, days=30), 3) / letters,
    )
    yield (
        "history, newest of one import",
        await cost(pid, lambda: import_runs.history(connection, "import 7", limit=20)),
    )
    async with connection.transaction(force_rollback=True):
        each = await cost(pid, lambda: import_runs.purge(connection, days=0, step=STEP), 2) / STEP
    yield "history purge, a row", each
