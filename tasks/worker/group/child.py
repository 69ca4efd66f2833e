"""A group in a pool process: one transaction, all results in one round trip, and the conclusion of each job.

A commit waits for the disk and a result for Redis; each costs as much for many jobs as for one.
"""

import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from celery import current_app
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded
from celery.states import FAILURE, SUCCESS

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.delivery import delivered
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.model_contract_pattern_storage import OF_MESSAGE
from pattern_storage.storage.pipeline import OnSent
from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.transport.message import parse
from pattern_storage.tasks.worker import result_backend, runtime
from pattern_storage.tasks.worker.delivered_job import delivery_from
from pattern_storage.tasks.worker.group.conclusion import Group, Outcome, conclude, listened
from pattern_storage.tasks.worker.prepared_state import PreparedStates
from pattern_storage.tasks.worker.received_contract import receive


class GroupedJob(NamedTuple):
    """One job of a group: the task's name, the job's id, and the request as Celery hands it to a pool process."""

    task: str
    id: str
    request: dict[str, Any]
    #: The message's body as it came, see `PlainRequest`.
    body: str | bytes


logger = get_logger(__name__)


def run_group(jobs: Sequence[GroupedJob], on_sent: OnSent = lambda: None) -> list[Outcome | None]:
    """Execute jobs in one transaction; return the outcome of each, None for one to execute alone.

    `on_sent` is called when the statements have been sent, if there are any. It may be called again for each attempt,
    so that it must be idempotent.
    """
    try:
        return _run(jobs, on_sent)
    except SoftTimeLimitExceeded:
        # Rolled back, unless the commit was on its way: then the jobs are replayed when they are executed alone.
        pass
    except Exception:
        # Jobs that had committed by then are replayed as well.
        logger.exception("a group of %d jobs failed; each is executed alone", len(jobs))
    return [None] * len(jobs)


def _run(jobs: Sequence[GroupedJob], on_sent: OnSent) -> list[Outcome | None]:
    began = time.monotonic()
    contracts = {place: contract for place, job in enumerate(jobs) if (contract := _contract(job)) is not None}
    # Of two jobs with one id the group executes the first; the second goes alone.
    documents = Documents({jobs[place].id: jobs[place] for place in reversed(contracts)})
    deliveries = {contract.correlation_id: delivery_from(jobs[place].request) for place, contract in contracts.items()}
    with delivered(deliveries), runtime.runtime().group_connection() as connection:
        results = connection.execute(list(contracts.values()), documents.prepare, on_sent)
    committed_at = time.perf_counter()
    committed = {place: result for place, result in zip(contracts, results, strict=True) if result is not None}
    if committed:
        documents.store()
    group = Group(began, time.perf_counter() - committed_at, listened({job.task for job in jobs}))
    return [
        conclude(job.task, job.request, committed[place], group) if place in committed else None
        for place, job in enumerate(jobs)
    ]


def _contract(job: GroupedJob) -> ModelContractPatternStorage | None:
    """Return the job's contract, and add the arguments to its request as Celery does.

    Return None for a job that is to be executed alone: one with links, which may need the result in Redis at once, and
    one whose message is wrong, which is found out then.
    """
    try:
        # "W" is "[" in base64.
        args, kwargs, links = parse(b64decode(job.body) if job.body[:1] == "W" else job.body)
        if args != [] or kwargs.keys() != {"contract"} or any((links or {}).values()):
            return None
        job.request.update(args=args, kwargs=kwargs)
        return receive(job.task.rpartition(".")[2], job.id, kwargs["contract"], OF_MESSAGE)
    except SoftTimeLimitExceeded:
        raise
    # Whatever it is that the message is not.
    except Exception:
        return None


class Documents:
    """Result documents of a group, prepared while its commit is synced."""

    def __init__(self, jobs: Mapping[str, GroupedJob]) -> None:
        self._backend = cast("result_backend.StorageRedisBackend", current_app.backend)
        self._jobs = jobs
        self._prepared: PreparedStates | None = None
        self._failure: Exception | None = None

    def prepare(self, written: Mapping[str, RecordedResult]) -> None:
        """Prepare the documents of these results, by job id. An error is raised by `store`: the commit must go on."""
        wanted = ((self._jobs[job_id], result) for job_id, result in written.items())
        try:
            extended = self._backend.extends_results
            self._prepared = self._backend.prepare(
                _state(job, result, extended) for job, result in wanted if not job.request.get("ignore_result")
            )
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            self._failure = error

    def store(self) -> None:
        """Store the documents after the commit, in one round trip. What Redis refuses now is in the ledger."""
        if self._failure is not None:
            raise self._failure
        if self._prepared is not None:
            self._backend.store_prepared(self._prepared)


def _state(job: GroupedJob, result: RecordedResult, extended: bool) -> tuple[str, Any, str, Context | None]:
    # A context is not cheap, and the document needs it only for the id of the job that sent this one.
    request = Context(job.request) if extended or job.request.get("parent_id") else None
    if result.success:
        return job.id, result if request is None else result.parse().to_dict(), SUCCESS, request
    return job.id, StorageOperationFailed(result.parse().to_dict()), FAILURE, request
