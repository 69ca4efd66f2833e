"""Interception of the jobs of all clients: they go to a mode of the testing kit instead of a queue.

The methods of both clients that talk to a server are replaced while a mode is on; the others are the real ones.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast
from unittest.mock import patch
from uuid import UUID

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, outbox
from pattern_storage.storage.caller_connection import async_executor, executor
from pattern_storage.storage.job_options import SubmitOptions
from pattern_storage.tasks.client.asynchronous import AsyncPatternStorageClient
from pattern_storage.tasks.client.call_options import CallOptions, check_wait, outbox_options, split, with_options
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

AnyJob = TypeVar("AnyJob", Job, AsyncJob)


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
    client: PatternStorageClient, contracts: Sequence[ModelContractPatternStorage], options: SubmitOptions
) -> SubmitOptions:
    """Return the options with the client's defaults, after the checks of `submit_in`."""
    client._outbox_options(options)
    outbox.check_writes(contracts)
    return outbox_options(options, client.defaults)


def _results(mode: Mode, jobs: Iterable[AnyJob], timeout: float) -> Iterator[tuple[AnyJob, ModelResult]]:
    missing: JobTimeout | None = None
    for job in jobs:
        document = mode.document(job.correlation_id)
        result = parse_result(job.correlation_id, document)
        if result is None:
            # Waiting would not change it.
            missing = missing or JobTimeout(job.correlation_id, timeout, parse_status(document))
        else:
            request = job._request
            yield job, checked_result(job.correlation_id, None if request is None else request.fingerprint, result)
    if missing:
        raise missing


def _reading(mode: Mode) -> dict[str, Callable[..., Any]]:
    """Return the methods of a synchronous client that read and cancel one job."""

    def result(
        self: PatternStorageClient, correlation_id: UUID, request: Request | None, timeout: float
    ) -> ModelResult:
        [(_, answer)] = _results(mode, [Job(self, correlation_id, request)], timeout)
        return answer

    return {
        "cancel": lambda _, correlation_id: mode.cancel(UUID(str(correlation_id))),
        "_status": lambda _, correlation_id: parse_status(mode.document(correlation_id)),
        "_get": lambda _, correlation_id: mode.document(correlation_id),
        "_result": result,
    }


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

    def results(_: object, jobs: Iterable[Job], timeout: float = 10.0) -> Iterator[tuple[Job, ModelResult]]:
        return _results(mode, jobs, check_wait(timeout))

    return _reading(mode) | {
        "_enqueue": enqueue, "submit_again": submit_again, "submit_many_in": submit_many_in, "results": results,
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

    async def results(
        _: object,
        jobs: Iterable[AsyncJob],
        timeout: float = 10.0,
    ) -> AsyncIterator[tuple[AsyncJob, ModelResult]]:
        pairs = _results(mode, jobs, check_wait(timeout))
        while pair := await asyncio.to_thread(next, pairs, None):
            yield pair

    return {name: _in_thread(method) for name, method in _reading(mode).items()} | {
        "_enqueue": enqueue, "submit_many_in": submit_many_in, "results": results,
    }  # fmt: skip


def _in_thread(method: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(method, *arguments, **named)

    return call
