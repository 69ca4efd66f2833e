"""The same client for asyncio applications: nothing blocks the event loop."""

import asyncio
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import Any, Self, cast
from uuid import UUID

import psycopg

from storage import ModelContractPatternStorage, ModelResult, outbox
from tasks import result_store
from tasks.client.contracts import Operations
from tasks.client.listener import ResultListener, cancellable
from tasks.client.outcomes import answer_to, parse_status, result_key, was_cut_short
from tasks.client.synchronous import PatternStorageClient, answering, request_of
from tasks.errors import JobTimeout

#: Connections to the result backend: one listens, the others look results up.
MAX_CONNECTIONS = 10

#: Questions to PostgreSQL at the same time.
MAX_QUESTIONS = 4


class AsyncJob:
    """One submitted job, known by its correlation id."""

    def __init__(self, client: "AsyncPatternStorageClient", correlation_id: UUID, request: str | None = None) -> None:
        self._client = client
        self._request = request
        self.correlation_id = correlation_id

    def __repr__(self) -> str:
        return f"AsyncJob({str(self.correlation_id)!r})"

    async def status(self) -> str:
        """See `Job.status`."""
        return await self._client._status(self.correlation_id)

    async def cancel(self) -> ModelResult:
        """See `Job.cancel`."""
        return await self._client.cancel(self.correlation_id)

    async def result(self, timeout: float = 10.0) -> ModelResult:  # noqa: ASYNC109  # the same call as Job.result
        """See `Job.result`."""
        found = await self._client._result(self.correlation_id, timeout)
        if was_cut_short(found):
            found = await self._client._known(self.correlation_id) or found
        return answer_to(self._request, found)


class AsyncPatternStorageClient(Operations[Awaitable[AsyncJob]]):
    """`PatternStorageClient` with `await`: same arguments, same errors. Use it on one event loop.

    Publishing is Celery's, which is synchronous, and runs in a thread; results are awaited over one connection.
    """

    def __init__(
        self,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        broker_url: str | None = None,
        result_backend_url: str | None = None,
        connect_timeout: float | None = None,
    ) -> None:
        self._client = PatternStorageClient(
            database_url=database_url,
            redis_url=redis_url,
            broker_url=broker_url,
            result_backend_url=result_backend_url,
            connect_timeout=connect_timeout,
        )
        self._redis = result_store.connect_async(self._client.settings, max_connections=MAX_CONNECTIONS)
        self._listener = ResultListener(self._redis)
        # Each question to PostgreSQL opens a connection, which workers need more.
        self._asking = asyncio.Semaphore(MAX_QUESTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Jobs go on."""
        await self._listener.close()
        await self._redis.aclose()
        await asyncio.to_thread(self._client.close)

    async def submit(self, contract: ModelContractPatternStorage) -> AsyncJob:
        """See `PatternStorageClient.submit`."""
        return (await self.submit_many([contract]))[0]

    async def submit_many(self, contracts: Iterable[ModelContractPatternStorage]) -> list[AsyncJob]:
        """See `PatternStorageClient.submit_many`."""
        sending = list(contracts)
        await asyncio.to_thread(self._client.submit_many, sending)
        return [AsyncJob(self, contract.correlation_id, request_of(contract)) for contract in sending]

    async def submit_in(
        self, connection: psycopg.AsyncConnection[Any], contract: ModelContractPatternStorage
    ) -> AsyncJob:
        """See `PatternStorageClient.submit_in`."""
        await outbox.add(connection, contract)
        return self.get(contract.correlation_id)

    def get(self, correlation_id: UUID | str) -> AsyncJob:
        """See `PatternStorageClient.get`."""
        return AsyncJob(self, self._client.get(correlation_id).correlation_id)

    async def cancel(self, correlation_id: UUID | str) -> ModelResult:
        """See `Job.cancel`."""
        return await asyncio.to_thread(self._client.cancel, correlation_id)

    async def _status(self, correlation_id: UUID) -> str:
        meta = await self._get(correlation_id)
        return parse_status(meta) if meta is not None else (await self._client.archive.state(correlation_id))[0]

    async def _result(self, correlation_id: UUID, timeout: float) -> ModelResult:  # noqa: ASYNC109
        deadline = asyncio.get_running_loop().time() + timeout
        found = await self._archived(correlation_id)
        if found is None:
            with answering():
                found = await self._listener.wait(correlation_id, deadline)
        if found is None:  # Redis may have lost it while we waited
            found = await self._archived(correlation_id)
        if found is None:
            raise JobTimeout(correlation_id, timeout, await self._status(correlation_id))
        return found

    async def _archived(self, correlation_id: UUID) -> ModelResult | None:
        """Return what PostgreSQL knows of a job that Redis does not know."""
        if await self._get(correlation_id) is not None:
            return None
        return await self._known(correlation_id)

    async def _known(self, correlation_id: UUID) -> ModelResult | None:
        async with self._asking:
            return (await self._client.archive.state(correlation_id))[1]

    async def _get(self, correlation_id: UUID) -> bytes | None:
        with answering():
            return cast("bytes | None", await cancellable(self._redis.get(result_key(correlation_id))))
