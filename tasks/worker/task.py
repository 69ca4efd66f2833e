"""Base class of the five storage tasks: from a message to an outcome that Celery, Flower and the client understand."""

import threading
import time
from collections import UserDict
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.states import FAILURE, SUCCESS

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, attempts, dead_letters, ledger
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.logs import correlated, get_logger
from pattern_storage.tasks.description import describe_call
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.second_delivery import is_delivered_again
from pattern_storage.tasks.worker import runtime
from pattern_storage.tasks.worker.base_task import ResultTask
from pattern_storage.tasks.worker.delivered_job import of_task
from pattern_storage.tasks.worker.expiry import expire, has_expired
from pattern_storage.tasks.worker.last_failure import last_failure
from pattern_storage.tasks.worker.received_contract import receive
from pattern_storage.tasks.worker.redelivery import execute_again
from pattern_storage.tasks.worker.retry import retry_delay
from pattern_storage.tasks.worker.started import mark_started
from pattern_storage.tasks.worker.unfinished import never_ended, record_late, too_late
from pattern_storage.vocabulary import ErrorType, OperationName

logger = get_logger(__name__)

T = TypeVar("T")


class StorageTask(ResultTask):
    """Runs one contract, once per correlation id.

    A success is SUCCESS, a permanent failure FAILURE. A transient failure is RETRY, with full jitter, until the
    attempts are used up: then the job is a dead letter and FAILURE. A cancelled job is REVOKED.
    """

    abstract = True
    # We store STARTED after half a second instead, see `started`.
    track_started = False
    Request = "pattern_storage.tasks.worker.request:StorageRequest"
    Strategy = "pattern_storage.tasks.worker.group.strategy:strategy"
    # Flower shows the beginning of a result; more of a query's would have the template code in it.
    resultrepr_maxsize = 100

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the job. Raises StorageOperationFailed if a producer sent anything but `contract`."""
        outcome = vars(self.request).get("outcome")
        # Set by a group. All headers of the message are attributes as well, but JSON makes no ModelResult.
        if isinstance(outcome, ModelResult):
            return ShownResult(self.end(outcome))
        if not args and kwargs.keys() == {"contract"}:
            with correlated(str(self.request.id)), of_task(self):
                try:
                    return self.run(**kwargs)
                finally:
                    # From here on the time counts as that for storing the result.
                    vars(self.request)["done_at"] = time.perf_counter()
        names = ", ".join(map(repr, kwargs)) or "none"
        error = ContractInvalid(
            f"the task takes one keyword argument, contract; got {len(args)} positional and these keywords: {names}"
        )
        raise self.refused(str(self.name).rpartition(".")[2], error)

    def apply_async(self, args: Any = None, kwargs: Any = None, *options: Any, **more: Any) -> Any:
        """Send the job, also for a retry, or when Celery itself sends it after its process was lost.

        Headers and events have a description of it, where Celery would put the `repr` of the template.
        """
        more |= {"argsrepr": describe_call(str(self.name), kwargs), "kwargsrepr": ""}
        return super().apply_async(args, kwargs, *options, **more)

    def execute(self, operation: str, contract: Any) -> dict[str, Any]:
        """Execute one contract in one transaction and return its ModelResult as JSON types.

        Raises StorageOperationFailed, with the ModelResult in it, for an operation that failed.
        """
        try:
            received = receive(operation, str(self.request.id), contract)
        except ContractInvalid as error:
            raise self.refused(operation, error) from None
        begun_again, result = 0, None
        try:
            # The header, a text; celery-types takes it for a number.
            expires: Any = self.request.expires
            if has_expired(expires):
                result = expire(received, expires)
            elif is_delivered_again(vars(self.request)):
                begun_again, result = self._run(
                    execute_again(runtime.node(), received, environment_settings().max_attempts)
                )
                if result is None:
                    unended = never_ended(received, begun_again, last_failure(self.request))
                    result = self._dead_letter(received, unended, begun_again)
            result = result or self._run(runtime.node().execute_once(received))
        except SoftTimeLimitExceeded:
            result = self._first_result(received)
            if result is None:
                raise
        if result.metadata.get("retryable"):
            self._try_again(received, result, begun_again)
        # In all other cases the transaction that records the job in the ledger clears its attempts as well.
        if result.metadata.get("replayed") or (begun_again and operation == OperationName.QUERY):
            self._clear_attempts(received)
        return self.end(result)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """After a conflict, store the outcome of the job that the id belongs to again.

        After the hard time limit, when Celery calls this in the worker's main process, record the failure.
        """
        if isinstance(exc, TimeLimitExceeded):
            # In a thread: the main process has other jobs to look after.
            values = (str(self.name).rpartition(".")[2], task_id, (kwargs or {}).get("contract"))
            threading.Thread(target=record_late, args=values, name="record late job", daemon=True).start()
        if not isinstance(exc, StorageOperationFailed) or exc.error_type != ErrorType.CORRELATION_CONFLICT:
            return
        try:
            found = runtime.on_connection(ledger.find, UUID(task_id))
        except StorageError as error:
            logger.warning("cannot put back the first outcome of %s: %s", task_id, error)
            return
        if found is not None:
            _, first = found
            outcome = first.to_dict() if first.success else StorageOperationFailed(first.to_dict())
            self.backend.store_result(task_id, outcome, SUCCESS if first.success else FAILURE, request=self.request)

    def refused(self, operation: str, error: ContractInvalid) -> StorageOperationFailed:
        """Return the exception for a job whose contract was refused before it reached the effect node."""
        failure = ModelResult.failure(
            str(error), error.error_type, correlation_id=str(self.request.id), operation=operation, duration_ms=0.0
        )
        return StorageOperationFailed(failure.to_dict())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return runtime.run(coroutine, on_slow=lambda: mark_started([str(self.request.id)]))

    def _clear_attempts(self, contract: ModelContractPatternStorage) -> None:
        """Delete the attempts of a job that ended; rows that stay behind do no harm."""
        try:
            runtime.on_connection(attempts.clear, contract.correlation_id)
        except StorageError as error:
            logger.warning("cannot clear what was kept of %s: %s", self.request.id, error)

    def _first_result(self, contract: ModelContractPatternStorage) -> ModelResult | None:
        """Return the result of a job that had committed when it passed its time limit; otherwise record the failure.

        Its COMMIT may have been on the way when it was interrupted. With the failure in the ledger it cannot succeed
        later.
        """
        if contract.operation == OperationName.QUERY:
            return None
        late = too_late(contract)
        try:
            first = runtime.on_connection(ledger.record_failure, contract, late)
        except StorageError as error:
            logger.warning("cannot tell whether %s was done in time: %s", self.request.id, error)
            return None
        return None if first is late else first

    def _try_again(self, contract: ModelContractPatternStorage, result: ModelResult, begun_again: int) -> NoReturn:
        """End this attempt as RETRY, or make the job a dead letter if it was the last attempt."""
        settings = environment_settings()
        if begun_again + 1 >= settings.max_attempts:
            self._dead_letter(contract, result, begun_again + 1)
        if contract.operation != OperationName.QUERY:
            # For the job's timeline; it is often PostgreSQL that has failed.
            with suppress(StorageError):
                runtime.on_connection(attempts.note_failure, contract, result)
        self.end_as_retry(result, retry_delay(settings, self.request.retries or 0))

    def _dead_letter(
        self, contract: ModelContractPatternStorage, result: ModelResult, count: int
    ) -> ModelResult | None:
        """Store the job as a dead letter and end it as FAILURE. If PostgreSQL cannot store it now, return None.

        Return the job's first result if it turns out to have committed: only its answer was lost so many times.
        """
        try:
            if not runtime.on_connection(dead_letters.add, contract, result, attempts=count):
                return runtime.on_connection(ledger.replay, contract)
        except StorageError as error:
            logger.warning("cannot dead-letter %s after %d attempts: %s", self.request.id, count, error)
            return None
        result.metadata |= {"dead_letter": True, "attempts": count}
        result.metadata.pop("retryable", None)
        raise StorageOperationFailed(result.to_dict())


class ShownResult(UserDict[str, Any]):
    """A result that is stored already. Celery only shows its beginning, for which it would walk through all of it."""

    def __repr__(self) -> str:
        return repr(self.data)[:100]
