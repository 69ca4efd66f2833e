"""Results of many jobs as they complete, over one subscription: for synchronous code and for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar, cast
from uuid import UUID

import redis

from pattern_storage.storage import ModelResult, ledger
from pattern_storage.tasks.client.listener import ResultListener
from pattern_storage.tasks.client.result_collector import AnyJob, ResultCollector
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

    def receive(subscription: Subscription) -> Iterator[tuple[J, ModelResult]]:
        poll = time.monotonic()
        while collector and (now := time.monotonic()) < deadline:
            if now >= poll:
                # Now that it is subscribed, so that nothing is missed; later for publications that were lost.
                yield from look()
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
    if (late := collector.pending()) and timeout > 0 and database.is_configured:
        finished = run_sync(_finished(database, [job for _, job in late]))
        for key, job in late:
            if job in finished and (found := collector.on_database(key, *run_sync(database.state(job)))):
                yield found
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

    with translated_errors():
        async for found in look(collector.keys()):
            yield found
        if collector and loop.time() < deadline:
            async with listener.arrivals(collector.keys()) as arrived:
                poll = loop.time()
                while collector and (now := loop.time()) < deadline:
                    if now >= poll:
                        # As in `collect`.
                        keys, poll = collector.keys(), now + POLL_INTERVAL
                    else:
                        keys = await arrived.wait(min(deadline, poll) - now)
                    async for found in look(keys):
                        yield found
    if (late := collector.pending()) and timeout > 0 and database.is_configured:
        finished = await _finished(database, [job for _, job in late])
        for key, job in late:
            if job in finished and (known := collector.on_database(key, *await database.state(job))):
                yield known
    for found in collector.on_timeout(timeout):
        yield found


async def _finished(database: Database, jobs: list[UUID]) -> set[UUID]:
    """Return which of these jobs are in the ledger: Redis may have lost their results."""
    return await database.run(lambda connection: ledger.find_finished(connection, jobs))
