"""Attempts of a job that was delivered before: counted, unless another copy of the job runs. Replays: `storage.ledger`.

A job may be delivered again because its worker died, or because its message was thought lost while it still waits or
runs: then several copies execute at once, one commits, and the others return its result. Only a copy that begins while
no other runs is an attempt after one that died. PostgreSQL tells them apart: a copy holds an advisory lock on the job
while it executes, which ends with its process. Lock, count and job have one connection: see `attempts.begin_again`.
"""

from uuid import UUID

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect, attempts
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.translation import translate

logger = get_logger(__name__)


async def execute_again(
    node: NodePatternStorageEffect, contract: ModelContractPatternStorage, max_attempts: int
) -> tuple[int, ModelResult | None]:
    """Count the attempt and execute the contract; return how often the job has begun again, and its result.

    The result is None, and nothing was executed, if it has begun too often. Without PostgreSQL nothing is counted.
    """
    attempt = await _count(node, contract.correlation_id)
    if attempt is None:
        # Another copy is running, whose result this one returns, or nothing can be counted.
        return 0, await node.execute_once(contract)
    async with attempt:
        if attempt.begun_again >= max_attempts:
            return attempt.begun_again, None
        return attempt.begun_again, await node.execute_once(contract, attempt)


async def _count(node: NodePatternStorageEffect, correlation_id: UUID) -> attempts.CountedAttempt | None:
    try:
        return await attempts.begin_again(node.pool, correlation_id)
    except Exception as error:
        logger.warning("cannot count the attempts of %s: %s", correlation_id, translate(error))
        return None
