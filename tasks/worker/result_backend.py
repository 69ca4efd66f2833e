"""Result backend of the workers: Celery's Redis backend, whose writes never replace a final state and lose no job.

The documents are Celery's own, so a plain `AsyncResult` of any application reads them. The differences:

- Each write is the conditional store (`tasks/result_state_store.lua`) in one round trip, where Celery GETs first and a
  late PROGRESS can still replace a REVOKED.
- A write that fails does not fail the job. A state that is not final (STARTED, PROGRESS, RETRY) is tried once. A final
  state is tried again for WAIT seconds while the error may pass. Then the job ends with the outcome that it has:
  PostgreSQL has it too, and a client with DATABASE_URL finds it there.
- Where PostgreSQL does not have the outcome (a query's rows, a message that was refused), the message goes back to the
  queue: `Reject(requeue=True)`.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

from celery._state import get_current_task
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.exceptions import Reject, SecurityError, SoftTimeLimitExceeded
from kombu.exceptions import KombuError
from kombu.utils.encoding import bytes_to_str
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.tasks.redis_errors import LOGGED_OUT, MOVED, code_of, is_passing
from pattern_storage.tasks.redis_sentinels import SentinelGroup
from pattern_storage.tasks.result_state_store import is_observed, store, store_packed
from pattern_storage.tasks.wire import Wire, Wires
from pattern_storage.tasks.worker.prepared_state import DocumentAround, PreparedState, PreparedStates, is_durable
from pattern_storage.vocabulary import JobState

#: Seconds that a job waits for a result backend that refuses its final state, counted from the beginning of the outage:
#: a hundred jobs that each wait would stop the worker for as long as Redis is full.
WAIT = 10.0
#: Seconds that the worker's main process waits, which has other jobs to look after.
MAIN_WAIT = 1.0
#: Seconds after a failure during which states that are not final are skipped: each would cost its job the connect
#: timeout.
SKIP = 5.0
#: Seconds between two attempts for one job: the first pause, doubled up to the last.
FIRST_PAUSE, LAST_PAUSE = 0.1, 1.0

#: Errors of a value under a result key that is no result of any Celery application.
UNREADABLE = (KombuError, SecurityError, LookupError, TypeError, ValueError, AttributeError, RecursionError)

#: A task's id, its result as the task returned or raised it, its state, and its request (a `Context`).
Result = tuple[str, Any, str, Any]


class StorageRedisBackend(RedisBackend):
    """Celery's Redis backend with the conditional store."""

    # Unknown to celery-types.
    app: Any
    expires: int | None
    failure_expires: int | None
    connparams: dict[str, Any]
    _get_result_meta: Any

    # Of the process, not of the instance: Celery makes one for each thread.
    _backoff: ClassVar = ReconnectBackoff("cannot store results, jobs go on", "worker")
    _outage_began: ClassVar[float | None] = None
    _last_failure: ClassVar[float] = float("-inf")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # redis-py's own retries would hold a job for many seconds.
        self.connparams["retry"] = Retry(NoBackoff(), 1)

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        """Store one state. Raises Reject, inside a job, where its outcome would otherwise be lost."""
        in_job = get_current_task() is not None
        prepared = self._prepare(task_id, result, state, request, traceback)
        if self._store(PreparedStates.of([prepared]), WAIT if in_job else MAIN_WAIT) and in_job:
            raise Reject("its result cannot be stored now, and PostgreSQL does not have it", requeue=True)
        return self.encode_result(result, state)

    def prepare(self, results: Iterable[Result]) -> PreparedStates:
        """Return the states of many tasks as `store_prepared` takes them.

        Takes `(task_id, result, state, request)` for each. The result is a value for SUCCESS and the exception for
        FAILURE and RETRY, as for `store_result`, or a success as the ledger has it, without a request.
        """
        # As Celery writes it; its own clock takes three times as long.
        date_done = datetime.now(self.app.timezone).isoformat().encode()
        return PreparedStates.of(
            [
                self._around.prepare(task_id, result, date_done)
                if isinstance(result, RecordedResult)
                else self._prepare(task_id, result, state, request)
                for task_id, result, state, request in results
            ]
        )

    def store_prepared(self, states: PreparedStates) -> None:
        """Store and publish the states of many tasks in one round trip, for jobs that ran in one group.

        Never raises because a server refuses or is away. It may wait as long as `store_result`, WAIT seconds for all of
        them together. What Redis does not take is lost here: give it only what the ledger has, as it has the results of
        all jobs of a group, and states that are not final. `store_result` hands back the message of any other.
        """
        self._store(states, WAIT)

    def store_many(self, results: Iterable[Result]) -> None:
        """Prepare and store the states of many tasks, as `store_prepared` does."""
        self.store_prepared(self.prepare(results))

    @cached_property
    def extends_results(self) -> bool:
        """Whether documents have the request too (`result_extended`)."""
        return bool(self.app.conf.result_extended)

    @cached_property
    def _wires(self) -> Wires[Wire]:
        return Wires(self.client, Wire)

    @cached_property
    def _around(self) -> DocumentAround:
        return DocumentAround(self)

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, propagate: bool | None = None, **options: Any
    ) -> None:
        """Count a part of a chord. Raises Reject, inside a job, if Redis refuses it now: the job then comes again."""
        try:
            super().on_chord_part_return(request, state, result, propagate, **options)
        except (RedisError, OSError) as error:
            if get_current_task() is None or not is_passing(error):
                raise
            raise Reject(error, requeue=True) from error

    def _get_task_meta_for(self, task_id: str) -> Any:
        """Return the task's result document; an unreadable one counts as none, and must not end the worker."""
        try:
            return super()._get_task_meta_for(task_id)  # type: ignore[misc]  # unknown to celery-types
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
        except UNREADABLE:
            pass
        return {"status": "PENDING", "result": None}

    def _prepare(self, task_id: str, result: Any, state: str, request: Any, traceback: Any = None) -> PreparedState:
        document = self._get_result_meta(
            result=self.encode_result(result, state), state=state, traceback=traceback, request=request
        )
        document["task_id"] = bytes_to_str(task_id)
        seconds = self.failure_expires if state == JobState.FAILURE else self.expires
        state_of_task = (self.get_key_for_task(task_id), self.encode(document), state, seconds)
        return PreparedState(task_id, state_of_task, is_durable(result))

    def _store(self, sending: PreparedStates, wait: float) -> list[PreparedState]:
        """Store the states; return those that neither Redis nor PostgreSQL has, though Redis may take them later."""
        kind = StorageRedisBackend
        if time.monotonic() < kind._last_failure + SKIP:
            sending = PreparedStates.of([prepared for prepared in sending.states if prepared.final])
        deadline, pause = time.monotonic() + wait, FIRST_PAUSE
        lost: list[PreparedState] = []
        try:
            while sending.states:
                failed = self._send(sending)
                # Permanent errors are not retried: the log names them.
                states = [prepared for prepared, error in failed if prepared.final and is_passing(error)]
                lost = [prepared for prepared in states if not prepared.durable]
                began = time.monotonic() if kind._outage_began is None else kind._outage_began
                if not states or time.monotonic() > (deadline if lost else min(deadline, began + WAIT)):
                    break
                time.sleep(pause)
                sending = PreparedStates.of(states)
                pause = min(2 * pause, LAST_PAUSE)
        except SoftTimeLimitExceeded:
            # The job itself has ended in time.
            pass
        return lost

    def _send(self, sending: PreparedStates) -> list[tuple[PreparedState, Exception]]:
        """Store in one round trip; return the states that were not stored, each with its error."""
        kind, states = StorageRedisBackend, sending.states
        failed: list[tuple[PreparedState, Exception]]
        try:
            if is_observed():
                errors = store(self.client, [prepared.state for prepared in states])
            else:
                errors = store_packed(self._wires, self.connparams["socket_timeout"], sending.packed)
            failed = [(prepared, error) for prepared, error in zip(states, errors, strict=True) if error is not None]
        except (RedisError, OSError) as error:
            failed = [(prepared, error) for prepared in states]
        if failed:
            kind._last_failure = time.monotonic()
            kind._outage_began = kind._outage_began or kind._last_failure
            kind._backoff.failed(failed[0][1])
            if any(code_of(error) in MOVED | LOGGED_OUT for _, error in failed):
                # This connection leads to the former primary, or is not logged in any more; a new one may be better.
                self.client.connection_pool.disconnect()
                self._wires.close()
        elif kind._outage_began is not None:
            kind._outage_began, kind._last_failure = None, float("-inf")
            kind._backoff.succeeded()
        return failed


class StorageSentinelBackend(StorageRedisBackend, SentinelBackend):
    """The result backend behind Sentinels."""

    #: Where Celery looks up the class of the Sentinels, in place of redis-py's module.
    sentinel: Any = SimpleNamespace(Sentinel=SentinelGroup)
