"""Status, result and cancellation of one job for synchronous code, with the result backend and PostgreSQL."""

import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any, cast
from uuid import UUID

import redis
from redis.exceptions import RedisError, ResponseError

from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.outgoing import Request
from pattern_storage.tasks.client.result_document import (
    ended_by_celery,
    parse_result,
    result_key,
    unreadable,
)
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL, ResultResolver
from pattern_storage.tasks.client.status import combined_status, marker, readable_status
from pattern_storage.tasks.client.subscriptions import Subscriptions
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.redis_connections import translated_errors
from pattern_storage.tasks.redis_errors import is_passing
from pattern_storage.tasks.result_state_store import store
from pattern_storage.vocabulary import ErrorType, JobState


class ResultReader:
    """Reads a client's jobs, on the connections of the client."""

    def __init__(
        self, settings: Settings, connection: "redis.Redis", subscriptions: Subscriptions, database: Database
    ) -> None:
        self._settings = settings
        self._redis = connection
        self._subscriptions = subscriptions
        self._database = database

    def cancel(self, correlation_id: UUID) -> ModelResult:
        """See `Job.cancel`."""
        result = run_sync(self._database.cancel(correlation_id))
        if result.metadata.get("error_type") != ErrorType.REVOKED:
            return result
        with suppress(RedisError):
            ended = parse_result(correlation_id, self.get(correlation_id))
            if ended is not None and not ended_by_celery(ended) and not ended.metadata.get("dead_letter"):
                # A query that was answered, or a job that was refused: the ledger has neither.
                return ended
            # The ledger has decided: callers need not wait until a worker finds the job cancelled.
            key, lifetime = self._key(correlation_id), self._settings.result_expires
            store(self._redis, [(key, marker(JobState.REVOKED), JobState.REVOKED, lifetime)])
        return result

    def status(self, correlation_id: UUID) -> str:
        """See `Job.status`."""
        with translated_errors():
            meta = self.get(correlation_id)
        if status := readable_status(meta):
            return status
        stored, _ = run_sync(self._database.state(correlation_id))
        return combined_status(meta, stored)

    def result(self, correlation_id: UUID, request: Request | None, timeout: float) -> ModelResult:
        """See `Job.result`."""
        deadline = time.monotonic() + timeout
        fingerprint = None if request is None else request.fingerprint
        resolver = ResultResolver(correlation_id, fingerprint, has_database=self._database.is_configured)

        def look_up() -> ModelResult | None:
            return resolver.on_database(*run_sync(self._database.state(correlation_id, deadline - time.monotonic())))

        with translated_errors(), closing(self._watch(correlation_id, deadline, resolver)) as updates:
            for meta in updates:
                result = resolver.on_result_backend(meta)
                if result is None and resolver.needs_database:
                    result = look_up()
                if result is not None:
                    return result
        result = look_up() if resolver.needs_final_lookup(timeout) else None
        return result or resolver.on_timeout(timeout)

    def _watch(self, correlation_id: UUID, deadline: float, resolver: ResultResolver) -> Generator[bytes | None]:
        """Yield the job's result document: now, after each publication, and once every POLL_INTERVAL."""
        key = self._key(correlation_id)
        if time.monotonic() >= deadline:
            yield self.get(correlation_id)
            return
        with self._subscriptions.subscribe(key, at_once=False) as subscription:
            # Read once it is subscribed, so that no publication is missed in between.
            yield _read(subscription.get, key)
            while (remaining := deadline - time.monotonic()) > 0:
                message = subscription.receive_message(min(remaining, POLL_INTERVAL))
                if message is not None:
                    yield message[1]
                else:
                    resolver.backend_refuses = self._database.is_configured and refuses_writes(self._redis, key)
                    yield self.get(correlation_id)

    def _key(self, correlation_id: UUID) -> str:
        return result_key(correlation_id, self._settings.key_prefix)

    def get(self, correlation_id: UUID) -> bytes | None:
        """Return the job's result document. Raises redis.exceptions.RedisError."""
        return _read(self._redis.get, self._key(correlation_id))


def _read(get: Callable[[str], Any], key: str) -> bytes | None:
    try:
        return cast("bytes | None", get(key))
    except ResponseError as error:
        return unreadable(error)


def refuses_writes(results: "redis.Redis", key: str) -> bool:
    """Whether the result backend refuses writes now, so that no result can arrive there."""
    try:
        # A write that changes nothing, even if the key does not exist.
        results.setrange(key, 0, "")
    except RedisError as error:
        return is_passing(error)
    return False
