"""Attempts of a job that was delivered before: counted, unless another copy of the job runs. Replays: `storage.ledger`.

A job may be delivered again because its worker died, or because its message was thought lost while it still waits or
runs: then several copies execute at once, one commits, and the others return its result. Only a copy that begins while
no other runs is an attempt after one that died. PostgreSQL tells them apart: a copy holds an advisory lock on the job
while it executes, which ends with its process.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect, attempts
from pattern_storage.storage.import_locks import lift_transaction_timeouts
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.translation import translate

logger = get_logger(__name__)

Pool = AsyncConnectionPool[AsyncConnection[Any]]

#: How many jobs of a pool may hold a second connection, their lock, at once: the others need connections as well.
_holders: WeakKeyDictionary[Pool, asyncio.Semaphore] = WeakKeyDictionary()


async def execute_again(
    node: NodePatternStorageEffect, contract: ModelContractPatternStorage, max_attempts: int
) -> tuple[int, ModelResult | None]:
    """Count the attempt and execute the contract; return how often the job has begun again, and its result.

    The result is None, and nothing was executed, if it has begun too often. Without PostgreSQL nothing is counted.
    """
    holders = _holders.setdefault(node.pool, asyncio.Semaphore(max(node.pool.max_size // 2, 1)))
    try:
        async with holders, node.pool.connection() as connection, connection.transaction():
            # This transaction is idle while the job runs, and its end by a time-out would be taken for the job's.
            await lift_transaction_timeouts(connection)
            if await attempts.try_lock(connection, contract.correlation_id):
                async with node.pool.connection() as counting:
                    begun_again = await attempts.count_delivery(counting, contract.correlation_id)
                return begun_again, None if begun_again >= max_attempts else await node.execute_once(contract)
    except Exception as error:
        problem = translate(error)
        logger.warning("cannot count the attempts of %s: %s", contract.correlation_id, problem)
    # Another copy is running, whose result this one returns, or nothing can be counted.
    return 0, await node.execute_once(contract)
