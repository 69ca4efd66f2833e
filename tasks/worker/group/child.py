"""A group in a pool process: one transaction, Celery's tracer for each job, and all results in one round trip."""

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple, cast

from celery import current_app
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded
from celery.states import FAILURE, SUCCESS
from celery.utils.nodenames import gethostname

from pattern_storage.storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.delivery import delivered
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.worker import runtime
from pattern_storage.tasks.worker.delivered_job import delivery_from
from pattern_storage.tasks.worker.received_contract import receive
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend


class GroupedJob(NamedTuple):
    """One job of a group: the task's name, the job's id, and the request as Celery hands it to a pool process."""

    task: str
    id: str
    request: dict[str, Any]


logger = get_logger(__name__)

#: What the main process is told of a job: whether it failed, the text of the result (or the failure), seconds.
Outcome = tuple[int, Any, float]

#: Jobs of this process beyond one for each call of the pool: what its limit has to count besides the calls.
extra_jobs = 0

#: When the group began, for the tracer of its next job: it reads a clock first of all.
_began: ContextVar[float | None] = ContextVar("began", default=None)


def run_group(jobs: Sequence[GroupedJob]) -> list[Outcome | None]:
    """Execute jobs in one transaction; return what Celery's tracer returned for each, None for one to execute alone."""
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
    with (
        delivered({one.correlation_id: delivery_from(job.request) for job, one in received}),
        runtime.runtime().group_connection() as connection,
    ):
        found = iter(connection.execute([one for _, one in received]))
    results = [None if one is None else next(found) for one in contracts]
    committed = time.perf_counter()
    unknown = _store([(job, result) for job, result in zip(jobs, results, strict=True) if result is not None])
    stored = time.perf_counter() - committed
    return [
        None if result is None or job.id in unknown else _trace(job, result, began, stored)
        for job, result in zip(jobs, results, strict=True)
    ]


def _contract(job: GroupedJob) -> ModelContractPatternStorage | None:
    """Return the job's contract; None for a message that has none, which says so when it is executed alone."""
    if job.request["args"] or job.request["kwargs"].keys() != {"contract"}:
        return None
    try:
        return receive(job.task.rpartition(".")[2], job.id, job.request["kwargs"]["contract"])
    except ContractInvalid:
        return None


def _trace(job: GroupedJob, result: ModelResult, began: float, stored: float) -> Outcome:
    """Have Celery conclude a job whose result is stored: signals, hooks, log, and the text for events."""
    done_at = time.perf_counter() - stored
    request = {**job.request, "is_eager": False, "ignore_result": True, "outcome": result, "done_at": done_at}
    _began.set(began)
    answer, failed, seconds, text = _tracer(job.task)(job.id, request["args"], request["kwargs"], request)
    return (1, answer, seconds) if failed else (0, text, seconds)


@cache
def _tracer(name: str) -> Callable[..., Any]:
    """Return Celery's tracer of a task, whose clock starts when the group began."""
    return build_tracer(
        name, current_app.tasks[name], current_app.loader, gethostname(), app=current_app, monotonic=_clock
    )


def _clock() -> float:
    began = _began.get()
    _began.set(None)
    return time.monotonic() if began is None else began


def _store(ended: Sequence[tuple[GroupedJob, ModelResult]]) -> set[str]:
    """Store all results in one round trip; return the ids of those whose outcome nobody would learn of otherwise."""
    backend = cast("StorageRedisBackend", current_app.backend)
    return set(backend.store_many(_state(job, result) for job, result in ended if not job.request.get("ignore_result")))


def _state(job: GroupedJob, result: ModelResult) -> tuple[str, Any, str, Context | None]:
    outcome = result.to_dict()
    # A context is not cheap, and the result names nothing of it but the job that this one was sent by.
    request = Context(job.request) if job.request.get("parent_id") or current_app.conf.result_extended else None
    if result.success:
        return job.id, outcome, SUCCESS, request
    return job.id, StorageOperationFailed(outcome), FAILURE, request
