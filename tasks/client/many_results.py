"""Results of many jobs as they complete, over one subscription: for synchronous code and for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar, cast
from uuid import UUID

import redis

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.listener import ResultListener, in_rounds
from pattern_storage.tasks.client.result_collector import AnyJob, ResultCollector
from pattern_storage.tasks.client.result_reader import refuses_writes
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL
from pattern_storage.tasks.client.subscriptions import Subscription, Subscriptions
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.redis_connections import translated_errors

J = TypeVar("J", bound=AnyJob)
T = TypeVar("T")


def collect(
    collector: ResultCollector[J],
    results: "redis.Redis",
    subscriptions: Subscriptions,
    database: Database,
    timeout: float,
) -> Iterator[tuple[J, ModelResult]]:
    """Yield each job with its result. Raises JobTimeout and ResultBackendUnavailable, see `client.results`."""
    deadline = time.monotonic() + timeout

    def look_up() -> Iterator[tuple[J, ModelResult]]:
        for keys in in_rounds(collector.keys()):
            documents = cast("list[bytes | None]", results.mget(keys))
            yield from collector.on_documents(zip(keys, documents, strict=True))
        yield from ask_database(collector.take_uncertain())

    def ask_database(ids: list[UUID]) -> Iterator[tuple[J, ModelResult]]:
        for jobs in in_rounds(ids):
            yield from collector.on_states(run_sync(database.states(jobs, deadline - time.monotonic())))

    def receive(subscription: Subscription) -> Iterator[tuple[J, ModelResult]]:
        poll = time.monotonic()
        while collector and (now := time.monotonic()) < deadline:
            if now >= poll:
                # At first, now that it is subscribed, so that nothing is missed; then for publications that were lost.
                yield from look_up()
                # While the result backend refuses writes, results are only in the ledger.
                if collector and database.is_configured and refuses_writes(results, collector.keys()[0]):
                    yield from ask_database(collector.ids())
                poll = time.monotonic() + POLL_INTERVAL
            elif (message := subscription.receive_message(min(deadline, poll) - now)) is not None:
                yield from collector.on_documents([message])
                yield from ask_database(collector.take_uncertain())

    with translated_errors():
        yield from look_up()
        if collector and time.monotonic() < deadline:
            with subscriptions.subscribe(*collector.keys()) as subscription:
                yield from receive(subscription)
    if collector and timeout > 0 and database.is_configured:
        yield from ask_database(collector.ids())
    yield from collector.on_timeout(timeout)


async def collect_async(
    collector: ResultCollector[J],
    listener: ResultListener,
    database: Database,
    slots: asyncio.Semaphore,
    timeout: float,
) -> AsyncIterator[tuple[J, ModelResult]]:
    """Yield each job with its result, as `collect` does; `slots` limits lookups in PostgreSQL."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout

    async def decide(documents: Iterable[tuple[str, bytes | None]]) -> AsyncIterator[tuple[J, ModelResult]]:
        for decided in collector.on_documents(documents):
            yield decided
        async for decided in ask_database(collector.take_uncertain()):
            yield decided

    async def ask_database(ids: list[UUID]) -> AsyncIterator[tuple[J, ModelResult]]:
        for jobs in in_rounds(ids):
            async with slots:
                states = await database.states(jobs, deadline - loop.time())
            for decided in collector.on_states(states):
                yield decided

    with translated_errors():
        async for decided in decide(await listener.get_many(collector.keys())):
            yield decided
        if collector and loop.time() < deadline:
            async with listener.arrivals(collector.keys) as arrivals:
                # At first it subscribes and reads all.
                documents, poll = await arrivals.receive(0), loop.time()
                async for decided in decide(documents):
                    yield decided
                while collector and (now := loop.time()) < deadline:
                    if now >= poll:
                        poll = now + POLL_INTERVAL
                        # As in `collect`.
                        if database.is_configured and await listener.refuses_writes(collector.keys()[0]):
                            async for decided in ask_database(collector.ids()):
                                yield decided
                            continue
                    documents = await arrivals.receive(min(deadline, poll) - now)
                    if loop.time() >= poll:
                        documents += await listener.get_many(collector.keys())
                    async for decided in decide(documents):
                        yield decided
    if collector and timeout > 0 and database.is_configured:
        async for decided in ask_database(collector.ids()):
            yield decided
    for decided in collector.on_timeout(timeout):
        yield decided
