"""Group execution: the writes of many jobs in one transaction and one round trip, each with its own outcome.

A transaction costs PostgreSQL and the driver far more than the row that it writes, so a worker executes the jobs that
it has at hand together, and one that is alone in the same way. What makes that safe:

- every job has its own outcome: a pattern that exists already or is missing is a result, no error of the transaction;
- the effects and all ledger rows commit together: each job is done once or not at all, as if it had run alone;
- any error rolls everything back, and the caller executes each job alone: a bad job cannot spoil its neighbours;
- nothing waits long for a lock while it holds those of the others (`LOCK_TIMEOUT`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pattern_storage.storage import delivery, numbers
from pattern_storage.storage.connection import connect_sync, milliseconds
from pattern_storage.storage.errors import AlreadyDone, ContractInvalid, StorageError, TransientError
from pattern_storage.storage.group_statements import Job, statements
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.operations.update import Update
from pattern_storage.storage.pipeline import OnSent, PipelineConnection, Row, Statement
from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate
from pattern_storage.vocabulary import OperationName

logger = get_logger(__name__)

#: Seconds that a group waits for a lock: one row that is locked must not delay all the other jobs.
LOCK_TIMEOUT = 0.2
#: Operations that may share a transaction, by name.
GROUPED: dict[str, type[Insert] | type[Update] | type[Delete]] = {
    OperationName.INSERT: Insert,
    OperationName.UPDATE: Update,
    OperationName.DELETE: Delete,
}
#: Seconds after which a session plans its statements anew: tables may have grown a thousandfold meanwhile.
PLANS_KEPT = 10.0
#: Called with the results of a transaction, by correlation id.
OnWritten = Callable[[Mapping[str, RecordedResult]], None]
#: Seconds without a group after a connection could not be made: each would wait for the time-out.
RETRY_DELAY = 5.0


class GroupConnection:
    """Executes groups, on a connection of its own that opens when it is first needed. Not thread-safe.

    Args:
        database_url: a libpq connection URL or conninfo.
        connect_timeout: seconds until connecting fails.
        statement_timeout: seconds after which PostgreSQL cancels a statement; 0 leaves it to the server.
        pooler: whether the session loses its settings, as behind PgBouncer: each transaction sets them then.
        on_measured: called with the name and the milliseconds of each job's measurement.
    """

    def __init__(
        self,
        database_url: str,
        *,
        connect_timeout: float,
        statement_timeout: float = 0.0,
        pooler: bool = False,
        on_measured: Callable[[str, float], None] = lambda name, value: None,
    ) -> None:
        self._database_url = database_url
        self._connect_timeout = connect_timeout
        self._statement_timeout = statement_timeout
        self._pooler = pooler
        #: Settings of a transaction where the session cannot have them.
        limits = [milliseconds(seconds) for seconds in (statement_timeout, LOCK_TIMEOUT)]
        self._limits: list[Statement] = [(block("limit_group"), limits)] if pooler else []
        self._on_measured = on_measured
        self._connection: PipelineConnection | None = None
        self._retry_at = 0.0
        self._planned_at = 0.0

    def execute(
        self,
        contracts: Sequence[ModelContractPatternStorage],
        on_written: OnWritten = lambda results: None,
        on_sent: OnSent = lambda: None,
    ) -> list[RecordedResult | None]:
        """Execute the contracts in one transaction, each once per correlation id, in this order.

        `on_sent` is called when PostgreSQL has the statements of a transaction, and before it has to be connected to,
        which may take long. `on_written` is called with the results, by correlation id, before the commit is confirmed.
        It may only prepare what follows, and must not raise: the commit can still fail.

        Return for each contract its result, as `execute_once` would, or None if it has to be executed alone: all of
        them if the transaction failed. Jobs that are in the ledger already are left out, to be replayed alone.
        """
        jobs: dict[str, Job] = {}
        places: dict[str, int] = {}
        for place, contract in enumerate(contracts):
            job_id = str(contract.correlation_id)
            # An id that comes twice is replayed the second time.
            if job_id not in jobs and (operation := _checked(contract)) is not None:
                jobs[job_id], places[job_id] = Job(contract, operation), place
        results: Mapping[str, RecordedResult] = {}
        try:
            try:
                results = self._execute(jobs, on_written, on_sent)
            except AlreadyDone:
                # None is found where another worker is deciding the job that was in the way.
                if finished := self._find_finished(jobs):
                    rest = {job_id: job for job_id, job in jobs.items() if job_id not in finished}
                    results = self._execute(rest, on_written, on_sent)
        except Exception as raised:
            reason = translate(raised)
            # Of a single job that failed for good, its execution alone logs why.
            if len(contracts) > 1 or isinstance(reason, TransientError):
                logger.info("%d jobs are executed alone, not as a group: %s", len(contracts), reason)
        in_order: list[RecordedResult | None] = [None] * len(contracts)
        for job_id, result in results.items():
            in_order[places[job_id]] = result
        return in_order

    def open(self) -> PipelineConnection:
        """Return the connection, made if there is none. Raises StorageError."""
        if self._connection is None or self._connection.closed:
            if time.monotonic() < self._retry_at:
                raise StorageError("PostgreSQL could not be reached a moment ago")
            self._retry_at = time.monotonic() + RETRY_DELAY
            connection = connect_sync(
                self._database_url,
                application_name="pattern-storage worker",
                timeout=self._connect_timeout,
                statement_timeout=0.0 if self._pooler else self._statement_timeout,
                keepalives=True,
            )
            connection.autocommit = True
            if not self._pooler:
                connection.execute(block("set_up_group_session"), {"lock": milliseconds(LOCK_TIMEOUT)})
            self._connection = PipelineConnection(connection, prepare=not self._pooler)
            self._retry_at = 0.0
        return self._connection

    def close(self) -> None:
        """Close the connection, if there is one. May be called from any thread."""
        if self._connection is not None:
            self._connection.close()

    def _execute(self, jobs: Mapping[str, Job], on_written: OnWritten, on_sent: OnSent) -> dict[str, RecordedResult]:
        if not jobs:
            return {}
        results: dict[str, RecordedResult] = {}
        before = [*self._limits, *self._stale_plans()]

        def read(rows_of_statements: list[list[Row]]) -> None:
            results.update(
                (str(job_id, "ascii"), RecordedResult(state == b"SUCCESS", result))
                for rows in rows_of_statements[len(before) :]
                for job_id, result, state in rows
                if job_id and result
            )
            on_written(results)

        effects = [*before, *statements(jobs.values())]
        if kept := ",".join(job_id for job_id, job in jobs.items() if not _is_new(job)):
            effects.append((block("clear_group"), [f"{{{kept}}}"]))
        started = time.perf_counter()
        try:
            if self._connection is None or self._connection.closed:
                on_sent()
            self.open().transaction(effects, read, on_sent)
        except Exception as error:
            raise translate(error) from error
        finally:
            duration_ms = (time.perf_counter() - started) * 1000
            for job in jobs.values():
                self._on_measured(f"{job.contract.operation}_duration_ms", duration_ms)
        logger.debug("transaction of %d jobs committed in %.1f ms", len(results), duration_ms)
        return results

    def _stale_plans(self) -> Iterator[Statement]:
        """Yield the statement that discards the session's plans, once in PLANS_KEPT seconds."""
        if not self._pooler and time.monotonic() > self._planned_at + PLANS_KEPT:
            self._planned_at = time.monotonic()
            yield block("discard_plans"), ()

    def _find_finished(self, ids: Iterable[str]) -> set[str]:
        """Return which of these jobs are in the ledger."""
        array = f"{{{','.join(ids)}}}"
        [rows] = self.open().transaction([(block("find_finished_of_group"), [array])])
        return {str(job_id, "ascii") for (job_id,) in rows if job_id}


def _is_new(job: Job) -> bool:
    return delivery.delivery_of(job.contract.correlation_id).is_new


def _checked(contract: ModelContractPatternStorage) -> Insert | Update | Delete | StorageError | None:
    """Return the contract's operation, or why it is refused; None if it cannot share a transaction."""
    if contract.operation not in GROUPED:
        return None
    try:
        return GROUPED[contract.operation].check(contract)
    except StorageError as error:
        # Its other values are not checked yet: one that the ledger cannot keep must not fail the other jobs.
        return error if _is_storable(contract) else None


def _is_storable(contract: ModelContractPatternStorage) -> bool:
    """Whether PostgreSQL can read the contract as part of a JSON value, where it refuses NUL characters and NaN."""
    try:
        validated = ModelContractPatternStorage.model_validate(dict(contract))
    except ContractInvalid:
        return False
    return numbers.are_json(validated.model_dump(mode="json")) and "\\u0000" not in validated.model_dump_json()
