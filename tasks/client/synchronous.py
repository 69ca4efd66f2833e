"""Client for synchronous code: every call returns or raises within a bounded time."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self, Unpack
from uuid import UUID

from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, outbox
from pattern_storage.storage.caller_connection import CallerConnection
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.job_options import JobOptions, SubmitOptions
from pattern_storage.storage.result_data import (
    DeletedPattern,
    InsertedBatch,
    InsertedPattern,
    PatternPage,
    UpdatedPattern,
)
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.call_options import (
    CallOptions,
    check_wait,
    outbox_options,
    refuse_impossible,
    split,
    with_options,
)
from pattern_storage.tasks.client.job import Job
from pattern_storage.tasks.client.many_results import collect
from pattern_storage.tasks.client.operations import Operations
from pattern_storage.tasks.client.outgoing import Outgoing, Request, naming_contract, prepare, reused_results
from pattern_storage.tasks.client.publisher import create_publisher
from pattern_storage.tasks.client.result_collector import ResultCollector
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.result_reader import ResultReader
from pattern_storage.tasks.client.subscriptions import Subscriptions
from pattern_storage.tasks.database import Database, check_database_url
from pattern_storage.tasks.redis_connections import translated_errors


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

    Arguments that are not given come from the environment, see `config.settings.Settings`:

    Args:
        database_url: PostgreSQL; needed to cancel, and where Redis does not know a job or its result.
        redis_url: Redis or Valkey, for queue and results.
        broker_url: the broker, if it is not `redis_url`.
        result_backend_url: the result backend, if it is not `redis_url`.
        connect_timeout: seconds until a server that does not answer is reported as down.
        defaults: options of all jobs that are submitted without their own, for example `{"priority": "low"}`.

    Raises:
        SettingsInvalid: if no server is configured, or a setting breaks a rule.
        ContractInvalid: if one of the defaults breaks a rule.
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
        self._subscriptions = Subscriptions(self._redis, self.settings.connect_timeout)
        self._reader = ResultReader(self.settings, self._redis, self._subscriptions, self.database)
        self._publisher = create_publisher(self.settings, self._redis)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; a later call opens new ones. Submitted jobs are not affected."""
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

        Raises what `submit` raises. All values are checked before the first contract is sent. The error about one names
        it, counted from 0, in its text (`contract 1234: ...`) and in `contract_index`.
        """
        jobs: list[Outgoing] = []
        with naming_contract(jobs):
            for contract in contracts:
                jobs.append(prepare(contract))
        return self._enqueue(jobs, options)

    def _enqueue_one(self, job: Outgoing, options: CallOptions) -> Job:
        return self._enqueue((job,), options)[0]

    def _enqueue(self, jobs: Sequence[Outgoing], options: CallOptions) -> list[Job]:
        job_options, timeout = split(options, self.defaults)
        self.publish(with_options(jobs, job_options, self.settings), timeout)
        return [Job(self, job.correlation_id, Request(job)) for job in jobs]

    def publish(self, jobs: Sequence[Outgoing], timeout: float | None = None) -> None:
        """Send prepared jobs, each with its own options. Raises BrokerUnavailable; then some may have been sent."""
        if old_results := reused_results(jobs, self.settings.key_prefix):
            with suppress(RedisError):
                self._redis.delete(*old_results)
        self._publisher.publish(jobs, timeout or self.settings.connect_timeout)

    def submit_again(self, contracts: Iterable[ModelContractPatternStorage]) -> list[Job]:
        """Send jobs that ended as dead letters again; their final state in Redis is deleted first."""
        sending = list(contracts)
        keys = [result_key(contract.correlation_id, self.settings.key_prefix) for contract in sending]
        if keys:
            with translated_errors():
                self._redis.delete(*keys)
        return self.submit_many(sending)

    def submit_in(
        self, connection: CallerConnection, contract: ModelContractPatternStorage, **options: Unpack[SubmitOptions]
    ) -> Job:
        """Write the job into the outbox in your own transaction: it exists if and only if that commits.

        A relay publishes it after the commit, and again until it is done. The connection must lead to the workers'
        database. Submitting the same contract again has no effect. Redis does not know the job before it is published:
        its status is QUEUED where DATABASE_URL is set, else UNKNOWN.

        Args:
            connection: a psycopg connection or cursor, in autocommit mode inside `with connection.transaction()`;
                SQLAlchemy's `Connection` or `Session`; or, inside `atomic`, Django's `connection`.
            contract: the job. Its `data` may be a `Pattern`, its `patterns` a list of Patterns.

        Raises:
            ContractInvalid, UnsupportedOperation: before anything is written; a query is refused as well.
            CorrelationConflict: if another request is in the outbox under this id; the transaction can go on.
            ConnectionUnsupported: for any other connection; it is a TypeError.
            StorageError: if the database is not migrated; the sentence says what to do.
            Exception: any other error of your connection.
        """
        return self.submit_many_in(connection, [contract], **options)[0]

    def submit_many_in(
        self,
        connection: CallerConnection,
        contracts: Iterable[ModelContractPatternStorage],
        **options: Unpack[SubmitOptions],
    ) -> list[Job]:
        """Write many jobs into the outbox in one statement, each as `submit_in` does; return the jobs in order.

        An error about one of several contracts names it as that of `submit_many` does.
        """
        sending = list(contracts)
        outbox.add_sync(connection, *sending, options=self._outbox_options(options))
        return [Job(self, contract.correlation_id, Request(prepare(contract))) for contract in sending]

    def _outbox_options(self, options: SubmitOptions) -> JobOptions:
        checked = JobOptions.of(outbox_options(options, self.defaults))
        # A job waits in the outbox until its eta, so no broker limits the delay.
        refuse_impossible(checked.without_eta(), self.settings)
        return checked

    def get(self, correlation_id: UUID | str) -> Job:
        """Return the job of this id, without asking a server. Raises ContractInvalid if it is not a UUID."""
        try:
            return Job(self, correlation_id if isinstance(correlation_id, UUID) else UUID(str(correlation_id)))
        except ValueError:
            raise ContractInvalid(f"correlation_id must be a UUID, not {str(correlation_id)[:100]!r}") from None

    def results(self, jobs: Iterable[Job], timeout: float = 10.0) -> Iterator[tuple[Job, ModelResult]]:
        """Yield each job with its result as they complete, over one subscription; `timeout` seconds for all of them.

        Jobs may come from `submit_many` or `get`. Raises ResultBackendUnavailable, and JobTimeout, after the other
        results, if some jobs have none in time. Raises ContractInvalid for a negative timeout.
        """
        seconds = check_wait(timeout)
        collector = ResultCollector(jobs, self.settings.key_prefix, has_database=self.database.is_configured)
        return collect(collector, self._redis, self._subscriptions, self.database, seconds)

    def cancel(self, correlation_id: UUID | str) -> ModelResult:
        """See `Job.cancel`."""
        return self._reader.cancel(self.get(correlation_id).correlation_id)

    def _status(self, correlation_id: UUID) -> str:
        return self._reader.status(correlation_id)

    def _result(self, correlation_id: UUID, request: Request | None, timeout: float) -> ModelResult:
        return self._reader.result(correlation_id, request, timeout)

    def _get(self, correlation_id: UUID) -> bytes | None:
        with translated_errors():
            return self._reader.get(correlation_id)
