"""Client for synchronous code: every call returns when it is done, or raises within a bounded time."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self, Unpack, cast
from uuid import UUID

from redis.exceptions import RedisError, ResponseError

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, outbox
from pattern_storage.storage.caller_connection import CallerConnection
from pattern_storage.storage.job_options import JobOptions, SubmitOptions
from pattern_storage.storage.result_data import (
    DeletedPattern,
    InsertedBatch,
    InsertedPattern,
    PatternPage,
    UpdatedPattern,
)
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.call_options import CallOptions, refuse_impossible, split, with_options
from pattern_storage.tasks.client.job import Job as Job
from pattern_storage.tasks.client.many_results import collect
from pattern_storage.tasks.client.operations import Operations
from pattern_storage.tasks.client.outgoing import Outgoing, Request, prepare, reused_results
from pattern_storage.tasks.client.publisher import create_publisher
from pattern_storage.tasks.client.result_collector import ResultCollector
from pattern_storage.tasks.client.result_document import (
    ended_by_celery,
    is_readable,
    parse_result,
    result_key,
    unreadable,
)
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL, ResultResolver
from pattern_storage.tasks.client.status import combined_status, marker, parse_status
from pattern_storage.tasks.client.subscriptions import Subscriptions
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.database_url import check_database_url
from pattern_storage.tasks.redis_connections import translated_errors
from pattern_storage.tasks.redis_errors import is_passing
from pattern_storage.tasks.result_state_store import store
from pattern_storage.vocabulary import ErrorType, JobState


class PatternStorageClient(
    Operations[
        Job[Any],
        Job[InsertedPattern],
        Job[UpdatedPattern],
        Job[DeletedPattern],
        Job[InsertedBatch],
        Job[PatternPage],
    ]
):
    """Enqueues storage jobs and reads their results. Safe to share between threads.

    Arguments that are left out come from the environment, see `config.settings.Settings`:

    Args:
        database_url: PostgreSQL; only needed to cancel, and for results that have expired in Redis.
        redis_url: Redis or Valkey, for queue and results.
        broker_url: the queue, where it is not `redis_url`.
        result_backend_url: the results, where they are not in `redis_url`.
        connect_timeout: seconds until a server that does not answer is reported as down.
        defaults: options of all jobs that say nothing else, for example `{"priority": "low"}`.

    Raises:
        SettingsInvalid: if no server is configured, or a setting breaks a rule.
        ContractInvalid: if one of the defaults does.
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
        self.settings: Settings = load_settings(
            database_url=database_url,
            redis_url=redis_url,
            broker_url=broker_url,
            result_backend_url=result_backend_url,
            connect_timeout=connect_timeout,
        )
        check_database_url(self.settings)
        self.defaults: SubmitOptions = defaults or {}
        refuse_impossible(JobOptions.of(self.defaults), self.settings)
        self.database = Database(self.settings)
        self._redis = redis_connections.connect(self.settings)
        self._subscriptions = Subscriptions(self._redis)
        self._publisher = create_publisher(self.settings, self._redis)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Jobs go on."""
        self._publisher.close()
        self._subscriptions.close()
        self._redis.close()

    def submit(self, contract: ModelContractPatternStorage, **options: Unpack[CallOptions]) -> Job:
        """Send one contract. Raises ContractInvalid, UnsupportedOperation or BrokerUnavailable."""
        return self._enqueue_one(prepare(contract), options)

    def submit_many(
        self, contracts: Iterable[ModelContractPatternStorage], **options: Unpack[CallOptions]
    ) -> list[Job]:
        """Send many contracts, 100 to a round trip, each a job of its own; return the jobs in the same order.

        Raises what `submit` raises. All values are checked before the first contract is sent.
        """
        return self._enqueue([prepare(contract) for contract in contracts], options)

    def _enqueue_one(self, job: Outgoing, options: CallOptions) -> Job:
        return self._enqueue((job,), options)[0]

    def _enqueue(self, jobs: Sequence[Outgoing], options: CallOptions) -> list[Job]:
        named, timeout = split(options, self.defaults)
        self.publish(with_options(jobs, named, self.settings), timeout)
        return [Job(self, job.correlation_id, Request(job)) for job in jobs]

    def publish(self, jobs: Sequence[Outgoing], timeout: float | None = None) -> None:
        """Send prepared jobs, each with options of its own. Raises BrokerUnavailable, then some may have been sent."""
        if again := reused_results(jobs, self.settings.key_prefix):
            with suppress(RedisError):
                self._redis.delete(*again)
        self._publisher.publish(jobs, timeout or self.settings.connect_timeout)

    def submit_again(self, contracts: Iterable[ModelContractPatternStorage]) -> list[Job]:
        """Send jobs that ended as dead letters again; their final state in Redis is deleted first."""
        sending = list(contracts)
        with translated_errors():
            if sending:
                self._redis.delete(*(self._key(contract.correlation_id) for contract in sending))
        return self.submit_many(sending)

    def submit_in(
        self, connection: CallerConnection, contract: ModelContractPatternStorage, **options: Unpack[SubmitOptions]
    ) -> Job:
        """Write the job into the outbox in your own transaction: it exists if and only if that commits.

        A relay publishes it after the commit, and again until it is done. The connection has to be to the workers'
        database. The same contract again changes nothing. Before it is published Redis does not know the job: its
        status is QUEUED where DATABASE_URL is set, else UNKNOWN.

        Args:
            connection: a psycopg connection or cursor, SQLAlchemy's `Connection` or `Session`, or, inside `atomic`,
                Django's `connection`.
            contract: the job.

        Raises:
            ContractInvalid, UnsupportedOperation: before anything is written; a query is refused as well.
            CorrelationConflict: if another request is in the outbox under this id; the transaction goes on.
            ConnectionUnsupported: for any other connection; it is a TypeError.
            Exception: what your connection raises.
        """
        return self.submit_many_in(connection, [contract], **options)[0]

    def submit_many_in(
        self,
        connection: CallerConnection,
        contracts: Iterable[ModelContractPatternStorage],
        **options: Unpack[SubmitOptions],
    ) -> list[Job]:
        """Write many jobs into the outbox in one statement, each as `submit_in` does; return the jobs in order."""
        sending = list(contracts)
        outbox.add_sync(connection, *sending, options=self._outbox_options(options))
        return [Job(self, contract.correlation_id, Request(prepare(contract))) for contract in sending]

    def _outbox_options(self, options: SubmitOptions) -> JobOptions:
        named, _ = split(cast("CallOptions", options), self.defaults)
        checked = JobOptions.of(named)
        # The relay waits for the moment, so that it may be any.
        refuse_impossible(checked.without_eta(), self.settings)
        return checked

    def get(self, correlation_id: UUID | str) -> Job:
        """Return the job of this id; asks no server. Raises ValueError if it is no UUID."""
        return Job(self, correlation_id if isinstance(correlation_id, UUID) else UUID(correlation_id))

    def results(self, jobs: Iterable[Job], timeout: float = 10.0) -> Iterator[tuple[Job, ModelResult]]:
        """Yield each job with its result as they complete, over one subscription; `timeout` seconds for all of them.

        Jobs may be those of `submit_many` or of `get`. Raises JobTimeout, when the rest has been yielded, if some have
        no result in time, and ResultBackendUnavailable.
        """
        collector = ResultCollector(jobs, self.settings.key_prefix, has_database=self.database.is_configured)
        return collect(collector, self._redis, self._subscriptions, self.database, timeout)

    def cancel(self, correlation_id: UUID | str) -> ModelResult:
        """See `Job.cancel`."""
        wanted = self.get(correlation_id).correlation_id
        result = run_sync(self.database.cancel(wanted))
        if result.metadata.get("error_type") != ErrorType.REVOKED:
            return result
        with suppress(RedisError):
            ended = parse_result(wanted, self._get(wanted))
            if ended is not None and not ended_by_celery(ended) and not ended.metadata.get("dead_letter"):
                # A query that was answered, or a job that was refused: neither is a matter of the ledger.
                return ended
            # Nobody needs to wait for the worker that finds the job cancelled; the ledger has decided.
            state = (self._key(wanted), marker(JobState.REVOKED), JobState.REVOKED, self.settings.result_expires)
            store(self._redis, [state])
        return result

    def _status(self, correlation_id: UUID) -> str:
        with translated_errors():
            meta = self._get(correlation_id)
        if is_readable(meta):
            return parse_status(meta)
        known, _ = run_sync(self.database.state(correlation_id))
        return combined_status(meta, known)

    def _result(self, correlation_id: UUID, request: Request | None, timeout: float) -> ModelResult:
        deadline = time.monotonic() + timeout
        asked = None if request is None else request.fingerprint
        resolver = ResultResolver(correlation_id, asked, has_database=self.database.is_configured)

        def look_up() -> ModelResult | None:
            return resolver.on_database(*run_sync(self.database.state(correlation_id, deadline - time.monotonic())))

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
        yield self._get(correlation_id)
        if time.monotonic() >= deadline:
            return
        with self._subscriptions.subscribe(key) as subscription:
            # Subscribed before looking again: what is published in between is not missed.
            yield self._get(correlation_id)
            while (remaining := deadline - time.monotonic()) > 0:
                document = subscription.receive(min(remaining, POLL_INTERVAL))
                if document is None:
                    resolver.backend_refuses = self.database.is_configured and self._refuses_writes(key)
                yield self._get(correlation_id) if document is None else document

    def _refuses_writes(self, key: str) -> bool:
        try:
            # A write that changes nothing, also where there is no key.
            self._redis.setrange(key, 0, "")
        except RedisError as error:
            return is_passing(error)
        return False

    def _key(self, correlation_id: UUID) -> str:
        return result_key(correlation_id, self.settings.key_prefix)

    def _get(self, correlation_id: UUID) -> bytes | None:
        try:
            return cast("bytes | None", self._redis.get(self._key(correlation_id)))
        except ResponseError as error:
            return unreadable(error)
