"""Client for asyncio applications: sending and waiting never block the event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Self, Unpack
from uuid import UUID

from redis.exceptions import RedisError

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, outbox
from pattern_storage.storage.caller_connection import AsyncCallerConnection
from pattern_storage.storage.job_options import SubmitOptions
from pattern_storage.storage.result_data import (
    DeletedPattern,
    InsertedBatch,
    InsertedPattern,
    PatternPage,
    UpdatedPattern,
)
from pattern_storage.tasks.client.call_options import CallOptions, check_wait, split, with_options
from pattern_storage.tasks.client.job import AsyncJob
from pattern_storage.tasks.client.loop_connections import LoopConnections, reuse_or_open
from pattern_storage.tasks.client.many_results import collect_async
from pattern_storage.tasks.client.operations import Operations
from pattern_storage.tasks.client.outgoing import Outgoing, Request, naming_contract, prepare, reused_results
from pattern_storage.tasks.client.result_collector import ResultCollector
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.result_resolver import ResultResolver
from pattern_storage.tasks.client.status import combined_status, readable_status
from pattern_storage.tasks.client.synchronous import PatternStorageClient
from pattern_storage.tasks.redis_connections import translated_errors

#: Contracts that `submit_many` prepares before it lets other tasks of the event loop run.
PREPARED_AT_ONCE = 100


class AsyncPatternStorageClient(
    Operations[
        Awaitable[AsyncJob[Any]],
        Awaitable[AsyncJob[InsertedPattern]],
        Awaitable[AsyncJob[UpdatedPattern]],
        Awaitable[AsyncJob[DeletedPattern]],
        Awaitable[AsyncJob[InsertedBatch]],
        Awaitable[AsyncJob[PatternPage]],
    ]
):
    """`PatternStorageClient` with `await`: same arguments, same errors. Use it on one event loop at a time.

    Only `cancel` and publishing to RabbitMQ, which is kombu's and synchronous, run in a thread. All results are awaited
    over one connection.
    """

    def __init__(
        self,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        broker_url: str | None = None,
        result_backend_url: str | None = None,
        connect_timeout: float | None = None,
        defaults: SubmitOptions | None = None,
    ) -> None:
        self._client = PatternStorageClient(
            database_url=database_url,
            redis_url=redis_url,
            broker_url=broker_url,
            result_backend_url=result_backend_url,
            connect_timeout=connect_timeout,
            defaults=defaults,
        )
        self._connections: LoopConnections | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later call opens new ones. Submitted jobs are not affected."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()
        await asyncio.to_thread(self._client.close)

    async def submit(self, contract: ModelContractPatternStorage, **options: Unpack[CallOptions]) -> AsyncJob:
        """See `PatternStorageClient.submit`."""
        return await self._enqueue_one(prepare(contract), options)

    async def submit_many(
        self, contracts: Iterable[ModelContractPatternStorage], **options: Unpack[CallOptions]
    ) -> list[AsyncJob]:
        """See `PatternStorageClient.submit_many`."""
        jobs: list[Outgoing] = []
        with naming_contract(jobs):
            for number, contract in enumerate(contracts, 1):
                jobs.append(prepare(contract))
                if number % PREPARED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return await self._enqueue(jobs, options)

    async def _enqueue_one(self, job: Outgoing, options: CallOptions) -> AsyncJob:
        return (await self._enqueue((job,), options))[0]

    async def _enqueue(self, jobs: Sequence[Outgoing], options: CallOptions) -> list[AsyncJob]:
        connections, settings = self._open(), self._client.settings
        job_options, timeout = split(options, self._client.defaults)
        sending = with_options(jobs, job_options, settings)
        if connections.publisher is None:
            await asyncio.to_thread(self._client.publish, sending, timeout)
        else:
            if old_results := reused_results(jobs, settings.key_prefix):
                with suppress(RedisError):
                    await connections.listener.delete(old_results)
            await connections.publisher.publish(sending, timeout or settings.connect_timeout)
        return [AsyncJob(self, job.correlation_id, Request(job)) for job in jobs]

    async def submit_in(
        self,
        connection: AsyncCallerConnection,
        contract: ModelContractPatternStorage,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJob:
        """See `PatternStorageClient.submit_in`.

        The connection is a psycopg `AsyncConnection` or `AsyncCursor`, SQLAlchemy's `AsyncConnection` or
        `AsyncSession`, or an asyncpg connection. Call it inside `connection.transaction()` with asyncpg's, and with
        psycopg's in autocommit mode.
        """
        return (await self.submit_many_in(connection, [contract], **options))[0]

    async def submit_many_in(
        self,
        connection: AsyncCallerConnection,
        contracts: Iterable[ModelContractPatternStorage],
        **options: Unpack[SubmitOptions],
    ) -> list[AsyncJob]:
        """See `PatternStorageClient.submit_many_in`."""
        sending = list(contracts)
        await outbox.add(connection, *sending, options=self._client._outbox_options(options))
        return [AsyncJob(self, contract.correlation_id, Request(prepare(contract))) for contract in sending]

    def get(self, correlation_id: UUID | str) -> AsyncJob:
        """See `PatternStorageClient.get`."""
        return AsyncJob(self, self._client.get(correlation_id).correlation_id)

    def results(self, jobs: Iterable[AsyncJob], timeout: float = 10.0) -> AsyncIterator[tuple[AsyncJob, ModelResult]]:
        """See `PatternStorageClient.results`."""
        seconds = check_wait(timeout)
        connections, database = self._open(), self._client.database
        prefix = self._client.settings.key_prefix
        collector = ResultCollector(jobs, prefix, has_database=database.is_configured)
        return collect_async(collector, connections.listener, database, connections.database_slots, seconds)

    async def cancel(self, correlation_id: UUID | str) -> ModelResult:
        """See `Job.cancel`."""
        return await asyncio.to_thread(self._client.cancel, correlation_id)

    async def _status(self, correlation_id: UUID) -> str:
        meta = await self._get(correlation_id)
        if status := readable_status(meta):
            return status
        stored, _ = await self._client.database.state(correlation_id)
        return combined_status(meta, stored)

    async def _result(self, correlation_id: UUID, request: Request | None, timeout: float) -> ModelResult:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        fingerprint = None if request is None else request.fingerprint
        resolver = ResultResolver(correlation_id, fingerprint, has_database=self._client.database.is_configured)

        async def look_up() -> ModelResult | None:
            async with connections.database_slots:
                return resolver.on_database(*await self._client.database.state(correlation_id, deadline - loop.time()))

        connections = self._open()
        with translated_errors():
            async with aclosing(connections.listener.watch(self._key(correlation_id), deadline, resolver)) as updates:
                async for meta in updates:
                    result = resolver.on_result_backend(meta)
                    if result is None and resolver.needs_database:
                        result = await look_up()
                    if result is not None:
                        return result
        result = await look_up() if resolver.needs_final_lookup(timeout) else None
        return result or resolver.on_timeout(timeout)

    async def _get(self, correlation_id: UUID) -> bytes | None:
        with translated_errors():
            return await self._open().listener.get(self._key(correlation_id))

    def _open(self) -> LoopConnections:
        """Return the connections on the running event loop of this process."""
        self._connections = reuse_or_open(self._connections, self._client.settings)
        return self._connections

    def _key(self, correlation_id: UUID) -> str:
        return result_key(correlation_id, self._client.settings.key_prefix)
