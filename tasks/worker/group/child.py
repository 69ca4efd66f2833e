"""A group in a pool process: one transaction, all results in one round trip, and the conclusion of each job."""

import time
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from celery import current_app
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded
from celery.states import FAILURE, SUCCESS

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.delivery import delivered
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.model_contract_pattern_storage import OF_MESSAGE
from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.transport.message import parse
from pattern_storage.tasks.worker import result_backend, runtime
from pattern_storage.tasks.worker.delivered_job import delivery_from
from pattern_storage.tasks.worker.group.conclusion import Group, Outcome, conclude, listened
from pattern_storage.tasks.worker.received_contract import receive


class GroupedJob(NamedTuple):
    """One job of a group: the task's name, the job's id, and the request as Celery hands it to a pool process."""

    task: str
    id: str
    request: dict[str, Any]
    #: The message's body, in base64; None if the request has the arguments.
    body: str | None


logger = get_logger(__name__)

#: Jobs of this process beyond one for each call of the pool: what its limit has to count besides the calls.
extra_jobs = 0


def run_group(jobs: Sequence[GroupedJob]) -> list[Outcome | None]:
    """Execute jobs in one transaction; return what the main process is told of each, None for one to execute alone."""
    global extra_jobs
    extra_jobs += len(jobs) - 1
    try:
        return _run(jobs)
    except SoftTimeLimitExceeded:
        # Rolled back, unless the commit was on its way: then the jobs are replayed when they are executed alone.
        return [None] * len(jobs)
    except StorageError as error:
        # Whatever had committed by then is replayed.
        logger.warning("a group of %d jobs failed; each is executed alone: %s", len(jobs), error)
        return [None] * len(jobs)
    except Exception:
        logger.exception("a group of %d jobs failed; each is executed alone", len(jobs))
        return [None] * len(jobs)


def _run(jobs: Sequence[GroupedJob]) -> list[Outcome | None]:
    began = time.monotonic()
    contracts = [_contract(job) for job in jobs]
    received = [(job, one) for job, one in zip(jobs, contracts, strict=True) if one is not None]
    documents = Documents(job for job, _ in received)
    with (
        delivered({one.correlation_id: delivery_from(job.request) for job, one in received}),
        runtime.runtime().group_connection() as connection,
    ):
        found = iter(connection.execute([one for _, one in received], documents.prepare))
    results = [None if one is None else next(found) for one in contracts]
    committed = time.perf_counter()
    documents.store(job for job, result in zip(jobs, results, strict=True) if result is not None)
    group = Group(began, time.perf_counter() - committed, listened({job.task for job in jobs}))
    return [
        None if result is None else conclude(job.task, job.request, result, group)
        for job, result in zip(jobs, results, strict=True)
    ]


def _contract(job: GroupedJob) -> ModelContractPatternStorage | None:
    """Return the job's contract; None for a message that has none, which says so when it is executed alone."""
    if job.body is not None and not _decode(job):
        return None
    if job.request["args"] or job.request["kwargs"].keys() != {"contract"}:
        return None
    try:
        return receive(job.task.rpartition(".")[2], job.id, job.request["kwargs"]["contract"], OF_MESSAGE)
    except ContractInvalid:
        return None


def _decode(job: GroupedJob) -> bool:
    """Add the arguments to the request, as Celery's do; return False for a body that has none."""
    try:
        args, kwargs, _ = parse(b64decode(job.body or ""))
    # Whatever it is that the body is not; the main process finds out, and refuses the message.
    except Exception:
        return False
    job.request.update(args=args, kwargs=kwargs)
    return isinstance(args, list) and isinstance(kwargs, dict)


class Documents:
    """Result documents of a group, prepared while its commit is synced."""

    def __init__(self, jobs: Iterable[GroupedJob]) -> None:
        self._backend = cast("result_backend.StorageRedisBackend", current_app.backend)
        # An id that comes twice is that of the first; the second goes alone.
        self._jobs: dict[str, GroupedJob] = {}
        for job in jobs:
            self._jobs.setdefault(job.id, job)
        self._prepared: dict[str, result_backend.Outcome] = {}
        self._failure: Exception | None = None

    def prepare(self, written: Mapping[str, RecordedResult]) -> None:
        """Prepare the documents of these results, by job id. What is raised for them is raised by `store`."""
        try:
            self._prepared = {one.task_id: one for one in self._states(written)}
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            self._failure = error

    def store(self, committed: Iterable[GroupedJob]) -> None:
        """Store those of committed jobs in one round trip. What Redis does not take now is in the ledger."""
        if self._failure is not None:
            raise self._failure
        self._backend.store_prepared([self._prepared[job.id] for job in committed if job.id in self._prepared])

    def _states(self, written: Mapping[str, RecordedResult]) -> list[result_backend.Outcome]:
        extended = self._backend.extends_results
        wanted = ((self._jobs[one], result) for one, result in written.items())
        return self._backend.prepare(
            _state(job, result, extended) for job, result in wanted if not job.request.get("ignore_result")
        )


def _state(job: GroupedJob, result: RecordedResult, extended: bool) -> tuple[str, Any, str, Context | None]:
    # A context is not cheap, and the result names nothing of it but the job that this one was sent by.
    request = Context(job.request) if extended or job.request.get("parent_id") else None
    if result.success:
        return job.id, result if request is None else result.parse().to_dict(), SUCCESS, request
    return job.id, StorageOperationFailed(result.parse().to_dict()), FAILURE, request
