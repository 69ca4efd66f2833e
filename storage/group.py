"""Group execution: the writes of many jobs in one transaction and one round trip, each with its own outcome.

A transaction costs PostgreSQL and the driver far more than the row that it writes, so a worker executes the jobs that
it has at hand together, and one that is alone in the same way. What makes that safe:

- every job has its own outcome: a pattern that exists already or is missing is a result, no error of the transaction;
- the effects and all ledger rows commit together: each job is done once or not at all, as if it had run alone;
- any error rolls everything back, and the caller executes each job alone: a bad job cannot spoil its neighbours;
- nothing waits long for a lock while it holds those of the others (`LOCK_TIMEOUT`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, LiteralString, NamedTuple, cast
from uuid import UUID

from psycopg.sql import SQL, Identifier
from pydantic_core import to_json

from pattern_storage.storage import delivery, ledger
from pattern_storage.storage.connection import connect_sync
from pattern_storage.storage.errors import AlreadyDone, PatternNotFound, StorageError, TransientError, VersionConflict
from pattern_storage.storage.ids import new_id
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations import check
from pattern_storage.storage.operations.base import identifiers
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.operations.update import Update
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.pipeline import PipelineConnection, Statement
from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate

logger = get_logger(__name__)

#: Seconds that a group waits for a lock: the row that somebody else holds must not hold thirty other jobs.
LOCK_TIMEOUT = 0.2
#: Seconds without a group after a connection could not be made: each would wait for the time-out.
RETRY_DELAY = 5.0


class Job(NamedTuple):
    """One job of a group."""

    contract: ModelContractPatternStorage
    #: What it asks for, or why that is refused.
    operation: Insert | Update | Delete | StorageError


class GroupConnection:
    """Executes groups, on a connection of its own that opens when it is first needed. For one thread.

    Args:
        database_url: a libpq connection URL or conninfo.
        connect_timeout: seconds until connecting fails.
        statement_timeout: seconds after which PostgreSQL cancels a statement; 0 leaves it to the server.
        pooler: whether the session forgets what it is told, as behind PgBouncer: each transaction says it then.
        on_measured: is told the name and the milliseconds of what each job took.
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
        #: What a transaction says where the session cannot.
        limits = [_milliseconds(one) for one in (statement_timeout, LOCK_TIMEOUT)]
        self._limits: list[Statement] = [(block("limit_group"), limits)] if pooler else []
        self._on_measured = on_measured
        self._connection: PipelineConnection | None = None
        self._retry_at = 0.0

    def execute(self, contracts: Sequence[ModelContractPatternStorage]) -> list[RecordedResult | None]:
        """Do what the contracts ask for in one transaction, each once per correlation id, in this order.

        Return a result for each, as `execute_once` would, or None for one that has to be executed alone: all of them
        if the transaction failed. What is in the ledger already is left out and alone too, to be replayed.
        """
        jobs: dict[UUID, Job] = {}
        for one in contracts:
            if (operation := _checked(one)) is not None:
                jobs.setdefault(one.correlation_id, Job(one, operation))
        results: dict[UUID, RecordedResult] = {}
        try:
            try:
                results = self._execute(list(jobs.values()))
            except AlreadyDone:
                finished = self._find_finished(jobs)
                # Nothing to leave out: the job that was in the way is being decided by another worker.
                if finished:
                    results = self._execute([job for one, job in jobs.items() if one not in finished])
        except Exception as raised:
            reason = translate(raised)
            # One job says itself why it failed for good, when it has been executed alone.
            if len(contracts) > 1 or isinstance(reason, TransientError):
                logger.info("%d jobs are executed alone, not as a group: %s", len(contracts), reason)
        # Taken out: an id that comes twice is replayed the second time.
        return [results.pop(one.correlation_id, None) for one in contracts]

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
                connection.execute(block("limit_session"), {"lock": _milliseconds(LOCK_TIMEOUT)})
            self._connection = PipelineConnection(connection, prepare=not self._pooler)
            self._retry_at = 0.0
        return self._connection

    def close(self) -> None:
        """Close the connection, if there is one. May be called from any thread."""
        if self._connection is not None:
            self._connection.close()

    def _execute(self, jobs: Sequence[Job]) -> dict[UUID, RecordedResult]:
        if not (statements := list(_statements(jobs))):
            return {}
        ids = f"{{{','.join(str(job.contract.correlation_id) for job in jobs)}}}"
        started = time.perf_counter()
        try:
            recorded = self.open().transaction([*self._limits, *statements, (block("clear_jobs"), [ids])])
        except Exception as error:
            raise translate(error) from error
        finally:
            duration_ms = (time.perf_counter() - started) * 1000
            for job in jobs:
                self._on_measured(f"{job.contract.operation}_duration_ms", duration_ms)
        rows = [row for rows in recorded[len(self._limits) :] for row in rows]
        logger.debug("transaction of %d jobs committed in %.1f ms", len(rows), duration_ms)
        return {
            UUID(str(one, "ascii")): RecordedResult(state == b"SUCCESS", result)
            for one, result, state in rows
            if one and result
        }

    def _find_finished(self, ids: Iterable[UUID]) -> set[UUID]:
        """Return which of these jobs are in the ledger."""
        wanted = f"{{{','.join(map(str, ids))}}}"
        [rows] = self.open().transaction([(block("find_finished_of_group"), [wanted])])
        return {UUID(str(one, "ascii")) for (one,) in rows if one}


def _checked(contract: ModelContractPatternStorage) -> Insert | Update | Delete | StorageError | None:
    """Return what the contract asks for, or why it is refused; None for what cannot share a transaction."""
    try:
        operation = check(contract)
    except StorageError as error:
        return error
    return operation if isinstance(operation, Insert | Update | Delete) else None


def _statements(jobs: Iterable[Job]) -> Iterator[Statement]:
    """Return the effects in this order, with their ledger rows; neighbouring inserts are one statement."""
    for kind, run in groupby(jobs, key=lambda job: type(job.operation)):
        if kind is Insert:
            yield _insert(list(run))
        elif kind is Update:
            yield from map(_update, run)
        elif kind is Delete:
            yield from map(_delete, run)
        else:
            yield (
                _record(block("no_pattern")),
                [_json([_row(job.contract, cast("StorageError", job.operation)) for job in run])],
            )


def _insert(jobs: list[Any]) -> Statement:
    new = [(new_id(), job) for job in jobs]
    patterns = [{"id": pattern_id, **vars(job.operation.pattern)} for pattern_id, job in new]
    # In key order: two groups that share keys wait for each other, where they would deadlock otherwise.
    patterns.sort(key=lambda row: (row["pattern_name"], row["pattern_type"], row["language"]))
    rows = [_row(job.contract, job.operation.not_written, pattern_id) for pattern_id, job in new]
    return _record(block("insert_patterns"), *WRITABLE), [_json(rows), _json(patterns)]


def _update(job: Any) -> Statement:
    changes, pattern_id = job.operation.changes, job.operation.pattern_id
    values = [_one(job), _json(changes), str(pattern_id), _expected(job), _json(list(changes))]
    return _record(block("update_pattern_in_group"), *changes), values


def _delete(job: Any) -> Statement:
    return _record(block("delete_pattern_in_group")), [_one(job), str(job.operation.pattern_id), _expected(job)]


def _one(job: Any) -> str:
    """Return the job of an update or a delete as `record_effect` takes it."""
    pattern_id, expect = job.operation.pattern_id, job.operation.expect
    row = _row(job.contract, PatternNotFound(pattern_id), pattern_id)
    # Its "?" becomes the time that PostgreSQL finds.
    return _json([row if expect is None else row | {"conflict": str(VersionConflict(pattern_id, expect, "?"))}])


def _expected(job: Any) -> str:
    return "" if job.operation.expect is None else job.operation.expect.isoformat()


@lru_cache(100)
def _record(effect: LiteralString, *columns: str) -> str:
    """Return the SQL of an effect with its ledger rows. The names of columns are from our own list."""
    assignments = SQL(", ").join(SQL("{0} = new.{0}").format(Identifier(column)) for column in columns)
    statement = SQL(effect).format(columns=identifiers(columns), assignments=assignments)
    return SQL(block("record_effect")).format(effect=statement).as_string()


def _row(contract: ModelContractPatternStorage, error: StorageError, pattern_id: UUID | None = None) -> dict[str, Any]:
    """Return a job as `record_effect` takes it: with its pattern, and the error if that is not written."""
    canonical, *older = (one.hex() for one in ledger.fingerprints(contract))
    came = delivery.delivery_of(contract.correlation_id)
    return {
        "correlation_id": contract.correlation_id,
        "operation": contract.operation,
        "fingerprint": canonical,
        "older": older[0] if older else None,
        "pattern_id": pattern_id,
        "pattern_name": delivery.pattern_name(contract),
        "error": str(error),
        "error_type": error.error_type,
        "contract": contract,
        "queue": came.queue,
        "worker": came.worker,
        "sent_at": came.sent_at,
        "claimed_at": came.claimed_at,
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _json(value: Any) -> str:
    return to_json(value).decode()
