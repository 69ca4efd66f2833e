"""The effect node: one contract, one explicit transaction, one result that never raises."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import ledger
from pattern_storage.storage.attempts import CountedAttempt
from pattern_storage.storage.connection import milliseconds
from pattern_storage.storage.errors import AlreadyDone, InternalError, StorageError, TransientError
from pattern_storage.storage.explanation import printable
from pattern_storage.storage.fingerprint import name_request
from pattern_storage.storage.logs import correlated, get_logger
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.node_base_effect import NodeBaseEffect
from pattern_storage.storage.operations import check
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate
from pattern_storage.vocabulary import OperationName

logger = get_logger(__name__)

#: Runs a contract that was begun at this reading of `time.perf_counter`.
Execute = Callable[[ModelContractPatternStorage, float], Awaitable[ModelResult]]


class NodePatternStorageEffect(NodeBaseEffect):
    """Executes the five operations on `pattern_templates`.

    Args:
        pool: an open `AsyncConnectionPool`, of the running event loop, with autocommit connections
            (`storage.pool.create_pool` makes one), so that the only transactions are the explicit ones.
        timeouts: seconds a statement may take, by operation, where it is not the connection's own limit.
        lock_timeout: seconds a statement waits for a lock, where it is not the connection's own limit.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[Any]],
        *,
        timeouts: Mapping[str, float] | None = None,
        lock_timeout: float | None = None,
    ) -> None:
        super().__init__()
        self.pool = pool
        self._timeouts = timeouts or {}
        self._lock_timeout = lock_timeout

    async def execute_effect(self, contract: ModelContractPatternStorage) -> ModelResult:
        """Execute the contract in one transaction and return its result.

        Never raises for a failed operation: `success` is False, `error` says why in plain English and
        `metadata["error_type"]` names the kind. Executing the same contract twice does it twice.
        """
        return await self._answer(contract, self._execute)

    async def execute_once(
        self, contract: ModelContractPatternStorage, attempt: CountedAttempt | None = None
    ) -> ModelResult:
        """Execute the contract once per correlation id, however often this is called and by how many processes.

        The first call that ends with a success or a permanent failure decides; every later one returns its result with
        `metadata["replayed"]`. A failure that may pass (`metadata["retryable"]`) decides nothing. The same id with
        another request is a `correlation_conflict`. A query is executed each time, unless it has been cancelled.

        A counted `attempt` has a transaction open already: the job is executed in that one, which ends with it.
        """
        execute = self._query if contract.operation == OperationName.QUERY else self._execute_once
        return await self._answer(contract, partial(execute, attempt=attempt))

    async def _answer(self, contract: ModelContractPatternStorage, execute: Execute) -> ModelResult:
        started = time.perf_counter()
        # A contract from model_construct may lack even the id; it gets a result all the same.
        with correlated(printable(getattr(contract, "correlation_id", "-"))):
            try:
                return await execute(contract, started)
            except Exception as raised:
                error = translate(raised)
                if isinstance(error, InternalError):
                    logger.exception("the operation failed with an unexpected error")
                return _failed(contract, error, started)

    async def _execute(self, contract: ModelContractPatternStorage, started: float) -> ModelResult:
        operation = check(contract)
        async with self._transaction(contract) as connection:
            data = await operation.apply(connection)
        return _succeeded(contract, data, started)

    async def _query(
        self, contract: ModelContractPatternStorage, started: float, attempt: CountedAttempt | None
    ) -> ModelResult:
        operation = check(contract)
        async with self._transaction(contract, attempt) as connection:
            if cancelled := await ledger.open_query(connection, contract):
                return cancelled
            result = _succeeded(contract, await operation.apply(connection), started)
        name_request(result, contract)
        return result

    async def _execute_once(
        self, contract: ModelContractPatternStorage, started: float, attempt: CountedAttempt | None
    ) -> ModelResult:
        try:
            operation = check(contract)
            async with self._transaction(contract, attempt) as connection:
                result = _succeeded(contract, await operation.apply(connection), started)
                await ledger.record(connection, contract, result)
        except StorageError as error:
            if isinstance(error, TransientError):
                raise
            if attempt is not None:
                # A refused contract has not come to its transaction, whose connection is needed now.
                await attempt.end()
            return await self._record_failure(contract, error, started)
        return result

    async def _record_failure(
        self, contract: ModelContractPatternStorage, error: StorageError, started: float
    ) -> ModelResult:
        """Return the result of a job that failed for good: its first one if the ledger has it, else this failure."""
        async with self.pool.connection() as connection:
            if isinstance(error, AlreadyDone):
                return await ledger.replay_recorded(connection, contract)
            return await ledger.record_failure(connection, contract, _failed(contract, error, started))

    @asynccontextmanager
    async def _transaction(
        self, contract: ModelContractPatternStorage, attempt: CountedAttempt | None = None
    ) -> AsyncIterator[Connection]:
        """Open an explicit transaction, logged by the correlation id and measured. Raises only StorageError."""
        async with self.transaction_manager.begin(contract.correlation_id) as transaction:
            try:
                async with attempt or self._begin() as connection:
                    await self._limit(connection, contract.operation)
                    yield connection
            except Exception as error:
                # The log has the sentence that the caller gets, not the driver's.
                raise translate(error) from error
            finally:
                self.record_metric(f"{contract.operation}_duration_ms", transaction.duration_ms)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[Connection]:
        async with self.pool.connection() as connection, connection.transaction():
            yield connection

    async def _limit(self, connection: Connection, operation: str) -> None:
        """Set this transaction's own limits, if it has any."""
        limits = {"statement": self._timeouts.get(operation), "lock": self._lock_timeout}
        if any(limits.values()):
            values = {name: None if limit is None else milliseconds(limit) for name, limit in limits.items()}
            await connection.execute(block("set_limits"), values)


def _succeeded(contract: ModelContractPatternStorage, data: dict[str, Any], started: float) -> ModelResult:
    return ModelResult(success=True, data=data, metadata=_metadata(contract, started))


def _failed(contract: ModelContractPatternStorage, error: StorageError, started: float) -> ModelResult:
    return ModelResult.failure(str(error), error.error_type, **_metadata(contract, started), **error.fields)


def _metadata(contract: ModelContractPatternStorage, started: float) -> dict[str, Any]:
    return {
        "correlation_id": printable(getattr(contract, "correlation_id", "-")),
        "operation": printable(getattr(contract, "operation", None)),
        "duration_ms": round((time.perf_counter() - started) * 1000, 3),
    }
