"""Results of many jobs as they complete, over one subscription: for synchronous code and for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TypeVar, cast
from uuid import UUID

import redis

from pattern_storage.storage import ModelResult, ledger
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.client.listener import ResultListener
from pattern_storage.tasks.client.result_collector import AnyJob, ResultCollector
from pattern_storage.tasks.client.result_reader import refuses_writes
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL
from pattern_storage.tasks.client.subscriptions import Subscription, Subscriptions
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.redis_connections import translated_errors

#: Keys in one MGET: the server does nothing else meanwhile.
KEYS_AT_ONCE = 1_000

J = TypeVar("J", bound=AnyJob)


def collect(
    collector: ResultCollector[J],
    results: "redis.Redis",
    subscriptions: Subscriptions,
    database: Database,
    timeout: float,
) -> Iterator[tuple[J, ModelResult]]:
    """Yield each job with its result. Raises JobTimeout and ResultBackendUnavailable, see `client.results`."""
    deadline = time.monotonic() + timeout

    def look() -> Iterator[tuple[J, ModelResult]]:
        keys = collector.keys()
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            for key, document in zip(some, cast("list[bytes | None]", results.mget(some)), strict=True):
                if found := collector.on_document(key, document):
                    yield found
        yield from ask_database()

    def ask_database() -> Iterator[tuple[J, ModelResult]]:
        for key, job in collector.uncertain():
            if found := collector.on_database(key, *run_sync(database.state(job, deadline - time.monotonic()))):
                yield found

    def look_into_ledger(seconds: float | None = None) -> Iterator[tuple[J, ModelResult]]:
        for some in _chunks(collector.pending()):
            known = run_sync(_finished(database, [job for _, job in some], seconds))
            for key, job in some:
                if job in known and (found := collector.on_database(key, *known[job])):
                    yield found

    def receive(subscription: Subscription) -> Iterator[tuple[J, ModelResult]]:
        poll = time.monotonic()
        while collector and (now := time.monotonic()) < deadline:
            if now >= poll:
                # Now that it is subscribed, so that nothing is missed; later for publications that were lost.
                yield from look()
                # While it refuses writes no result can come from there.
                if collector and database.is_configured and refuses_writes(results, collector.keys()[0]):
                    with suppress(StorageError):
                        yield from look_into_ledger(deadline - time.monotonic())
                poll = time.monotonic() + POLL_INTERVAL
            elif (received := subscription.receive_from(min(deadline, poll) - now)) is not None:
                if found := collector.on_document(*received):
                    yield found
                yield from ask_database()

    with translated_errors():
        yield from look()
        if collector and time.monotonic() < deadline:
            with subscriptions.subscribe(*collector.keys()) as subscription:
                yield from receive(subscription)
    if collector and timeout > 0 and database.is_configured:
        yield from look_into_ledger()
    yield from collector.on_timeout(timeout)


async def collect_async(
    collector: ResultCollector[J],
    listener: ResultListener,
    database: Database,
    slots: asyncio.Semaphore,
    timeout: float,  # noqa: ASYNC109  # as `collect`
) -> AsyncIterator[tuple[J, ModelResult]]:
    """Yield each job with its result, as `collect` does; `slots` are for lookups in PostgreSQL."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout

    async def look(keys: list[str]) -> AsyncIterator[tuple[J, ModelResult]]:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            for key, document in zip(some, await listener.get_many(some), strict=True):
                if found := collector.on_document(key, document):
                    yield found
        for key, job in collector.uncertain():
            async with slots:
                state = await database.state(job, deadline - loop.time())
            if found := collector.on_database(key, *state):
                yield found

    async def look_into_ledger(seconds: float | None = None) -> AsyncIterator[tuple[J, ModelResult]]:
        for some in _chunks(collector.pending()):
            async with slots:
                known = await _finished(database, [job for _, job in some], seconds)
            for key, job in some:
                if job in known and (found := collector.on_database(key, *known[job])):
                    yield found

    with translated_errors():
        async for found in look(collector.keys()):
            yield found
        if collector and loop.time() < deadline:
            async with listener.arrivals(collector.keys()) as arrived:
                poll = loop.time()
                while collector and (now := loop.time()) < deadline:
                    if polls := now >= poll:
                        # As in `collect`.
                        keys, poll = collector.keys(), now + POLL_INTERVAL
                    else:
                        keys = await arrived.wait(min(deadline, poll) - now)
                    async for found in look(keys):
                        yield found
                    if (
                        polls
                        and collector
                        and database.is_configured
                        and await listener.refuses_writes(collector.keys()[0])
                    ):
                        with suppress(StorageError):
                            async for found in look_into_ledger(deadline - loop.time()):
                                yield found
    if collector and timeout > 0 and database.is_configured:
        async for found in look_into_ledger():
            yield found
    for found in collector.on_timeout(timeout):
        yield found


def _chunks(pending: list[tuple[str, UUID]]) -> list[list[tuple[str, UUID]]]:
    return [pending[start : start + KEYS_AT_ONCE] for start in range(0, len(pending), KEYS_AT_ONCE)]


async def _finished(
    database: Database, jobs: list[UUID], seconds: float | None = None
) -> dict[UUID, tuple[str, ModelResult | None]]:
    """Return the states and results of those of these jobs that the ledger has: Redis may have lost them."""

    async def read(connection: Connection) -> dict[UUID, tuple[str, ModelResult | None]]:
        found = await ledger.find_finished(connection, jobs)
        return {job: await ledger.state(connection, job) for job in found}

    return await database.run(read, seconds)
