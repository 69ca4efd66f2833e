"""Interception of the jobs of all clients: they go to a mode of the testing kit instead of a queue.

The methods of both clients that talk to a server are replaced while a mode is on; the others are the real ones.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast
from unittest.mock import patch
from uuid import UUID

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, outbox
from pattern_storage.storage.caller_connection import async_executor, executor
from pattern_storage.storage.job_options import SubmitOptions
from pattern_storage.tasks.client.asynchronous import AsyncPatternStorageClient
from pattern_storage.tasks.client.call_options import CallOptions, outbox_options, split, with_options
from pattern_storage.tasks.client.job import AsyncJob, Job
from pattern_storage.tasks.client.outgoing import Outgoing, Request, contract_of, prepare
from pattern_storage.tasks.client.result_document import checked_result, parse_result
from pattern_storage.tasks.client.status import parse_status
from pattern_storage.tasks.client.synchronous import PatternStorageClient
from pattern_storage.tasks.errors import JobTimeout
from pattern_storage.testing.job_log import JobLog
from pattern_storage.testing.transactions import current, current_async

#: An address at which no server listens: a client cannot be built without the address of a queue.
NOWHERE = "redis://127.0.0.1:1/0"


class Mode(Protocol):
    """A way to treat submitted jobs. Its methods may be called in any thread."""

    jobs: JobLog
    #: Whether `submit_in` writes into the outbox; the job is logged either way.
    writes_outbox: bool

    def accept(self, contract: ModelContractPatternStorage) -> None:
        """Take a job that has been checked and logged."""
        ...

    def document(self, correlation_id: UUID) -> bytes | None:
        """Return the job's result document as Redis would have it."""
        ...

    def cancel(self, correlation_id: UUID) -> ModelResult:
        """See `Job.cancel`."""
        ...


@contextmanager
def intercepted(mode: Mode, **variables: str) -> Iterator[None]:
    """Send the jobs of every client to `mode`, with these environment variables set."""
    missing = {} if {"REDIS_URL", "BROKER_URL"} & os.environ.keys() else {"REDIS_URL": NOWHERE}
    with (
        patch.dict(os.environ, missing | variables),
        patch.multiple(PatternStorageClient, **_synchronous(mode)),
        patch.multiple(AsyncPatternStorageClient, **_asynchronous(mode)),
    ):
        yield


def _accept(client: PatternStorageClient, mode: Mode, jobs: Sequence[Outgoing], options: CallOptions) -> None:
    named, _ = split(options, client.defaults)
    for job in with_options(jobs, named, client.settings):
        contract = contract_of(job.contract)
        mode.jobs.add(contract, {**options, **named})
        mode.accept(contract)


def _outbox_options(
    client: PatternStorageClient, contracts: Iterable[ModelContractPatternStorage], options: SubmitOptions
) -> SubmitOptions:
    """Return the options with the client's defaults, after the checks of `submit_in`."""
    client._outbox_options(options)
    for contract in contracts:
        outbox.check_write(contract)
    return outbox_options(options, client.defaults)


def _result(mode: Mode, correlation_id: UUID, request: Request | None, timeout: float) -> ModelResult:
    document = mode.document(correlation_id)
    result = parse_result(correlation_id, document)
    if result is None:
        # Waiting would not change it.
        raise JobTimeout(correlation_id, timeout, parse_status(document))
    return checked_result(correlation_id, None if request is None else request.fingerprint, result)


def _synchronous(mode: Mode) -> dict[str, Any]:
    def enqueue(self: PatternStorageClient, jobs: Sequence[Outgoing], options: CallOptions) -> list[Job]:
        _accept(self, mode, jobs, options)
        return [Job(self, job.correlation_id, Request(job)) for job in jobs]

    def submit_again(self: PatternStorageClient, contracts: Iterable[ModelContractPatternStorage]) -> list[Job]:
        return self.submit_many(contracts)

    write = PatternStorageClient.submit_many_in

    def submit_many_in(
        self: PatternStorageClient, connection: Any, contracts: Iterable[ModelContractPatternStorage], **options: Any
    ) -> list[Job]:
        sending = list(contracts)
        execute = executor(connection)
        named = _outbox_options(self, sending, cast("SubmitOptions", options))
        jobs = write(self, connection, sending, **options) if mode.writes_outbox else []
        transaction = current(execute) if sending else None
        for contract in sending:
            mode.jobs.add(contract, named, outbox=True, transaction=transaction)
        return jobs or [Job(self, contract.correlation_id, Request(prepare(contract))) for contract in sending]

    def cancel(_: PatternStorageClient, correlation_id: UUID | str) -> ModelResult:
        return mode.cancel(UUID(str(correlation_id)))

    def status(_: PatternStorageClient, correlation_id: UUID) -> str:
        return parse_status(mode.document(correlation_id))

    def result(_: PatternStorageClient, correlation_id: UUID, request: Request | None, timeout: float) -> ModelResult:
        return _result(mode, correlation_id, request, timeout)

    def results(
        self: PatternStorageClient, jobs: Iterable[Job], timeout: float = 10.0
    ) -> Iterator[tuple[Job, ModelResult]]:
        for job in jobs:
            yield job, result(self, job.correlation_id, job._request, timeout)

    def get(_: PatternStorageClient, correlation_id: UUID) -> bytes | None:
        return mode.document(correlation_id)

    return {
        "_enqueue": enqueue, "submit_again": submit_again, "submit_many_in": submit_many_in,
        "cancel": cancel, "_status": status, "_result": result, "results": results, "_get": get,
    }  # fmt: skip


def _asynchronous(mode: Mode) -> dict[str, Any]:
    async def enqueue(
        self: AsyncPatternStorageClient, jobs: Sequence[Outgoing], options: CallOptions
    ) -> list[AsyncJob]:
        await asyncio.to_thread(_accept, self._client, mode, jobs, options)
        return [AsyncJob(self, job.correlation_id, Request(job)) for job in jobs]

    write = AsyncPatternStorageClient.submit_many_in

    async def submit_many_in(
        self: AsyncPatternStorageClient,
        connection: Any,
        contracts: Iterable[ModelContractPatternStorage],
        **options: Any,
    ) -> list[AsyncJob]:
        sending = list(contracts)
        execute = async_executor(connection)
        named = _outbox_options(self._client, sending, cast("SubmitOptions", options))
        jobs = await write(self, connection, sending, **options) if mode.writes_outbox else []
        transaction = await current_async(execute) if sending else None
        for contract in sending:
            mode.jobs.add(contract, named, outbox=True, transaction=transaction)
        return jobs or [AsyncJob(self, contract.correlation_id, Request(prepare(contract))) for contract in sending]

    async def cancel(_: AsyncPatternStorageClient, correlation_id: UUID | str) -> ModelResult:
        return await asyncio.to_thread(mode.cancel, UUID(str(correlation_id)))

    async def status(_: AsyncPatternStorageClient, correlation_id: UUID) -> str:
        return parse_status(await asyncio.to_thread(mode.document, correlation_id))

    async def result(
        _: AsyncPatternStorageClient,
        correlation_id: UUID,
        request: Request | None,
        timeout: float,  # noqa: ASYNC109
    ) -> ModelResult:
        return await asyncio.to_thread(_result, mode, correlation_id, request, timeout)

    async def results(
        self: AsyncPatternStorageClient,
        jobs: Iterable[AsyncJob],
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> AsyncIterator[tuple[AsyncJob, ModelResult]]:
        for job in jobs:
            yield job, await result(self, job.correlation_id, job._request, timeout)

    async def get(_: AsyncPatternStorageClient, correlation_id: UUID) -> bytes | None:
        return await asyncio.to_thread(mode.document, correlation_id)

    return {
        "_enqueue": enqueue, "submit_many_in": submit_many_in,
        "cancel": cancel, "_status": status, "_result": result, "results": results, "_get": get,
    }  # fmt: skip
