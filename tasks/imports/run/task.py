"""The task `imports.run`: executes one run of `import_runs`, on the queue `imports`."""

from contextlib import suppress
from typing import Any, NoReturn
from uuid import UUID

from celery.exceptions import Ignore, SoftTimeLimitExceeded
from pydantic import ValidationError

from pattern_storage.config.celeryconfig import IMPORT_TASK
from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import ModelResult, import_runs
from pattern_storage.storage.errors import SchemaMismatch, StorageError
from pattern_storage.storage.explanation import explain
from pattern_storage.storage.logs import correlated
from pattern_storage.tasks.celery_app import app
from pattern_storage.tasks.errors import ImportBroken, StorageOperationFailed
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.publisher import describe_run
from pattern_storage.tasks.imports.run.execution import RunExecutor, RunLocked
from pattern_storage.tasks.imports.run.progress import Progress
from pattern_storage.tasks.observability import metrics
from pattern_storage.tasks.worker import runtime
from pattern_storage.tasks.worker.base_task import ResultTask
from pattern_storage.tasks.worker.delivered_job import of_task
from pattern_storage.tasks.worker.last_failure import last_failure
from pattern_storage.tasks.worker.retry import retry_delay
from pattern_storage.vocabulary import IMPORT_OPERATION, ErrorType, JobState


class ImportTask(ResultTask):
    """Executes one run. A transient failure is RETRY until the attempts are used up; a cancelled run is REVOKED."""

    abstract = True
    Request = "pattern_storage.tasks.imports.run.request:ImportRequest"
    #: Enough for the name and the counts, of which Flower makes a summary.
    resultrepr_maxsize = 600

    def report(self, progress: Progress, task_id: str, hostname: str | None) -> None:
        """Report progress to result backend and event listeners; called in a thread."""
        about = progress.to_dict()
        self.backend.store_result(task_id, about, JobState.PROGRESS)
        # For event consumers `name` is the name of the task.
        about["import_name"] = about.pop("name")
        with app.events.default_dispatcher(hostname=hostname) as dispatcher:
            dispatcher.send("task-progress", uuid=task_id, **about)

    def again(self, result: ModelResult) -> NoReturn:
        """End this attempt as RETRY."""
        settings = environment_settings()
        # A server refuses again if it is asked before its Retry-After.
        retry_after = float(result.metadata.get("retry_after", 0.0))
        delay = retry_delay(settings, self.request.retries or 0, retry_after)
        # The retry is the run's message: another one, sent by beat, would begin the next attempt at once.
        with suppress(StorageError):
            later = delay + settings.relay_republish_delay
            runtime.on_connection(import_runs.postpone, UUID(str(self.request.id)), delay=later)
        self.end_as_retry(result, delay, argsrepr=describe_run(**(self.request.kwargs or {})), kwargsrepr="")


@app.task(name=IMPORT_TASK, bind=True, base=ImportTask)
def run_import(self: ImportTask, *, name: str | None = None, due: str | None = None) -> dict[str, Any]:
    """Execute the run that has this task's id. `name` and `due` only describe the message."""
    with correlated(str(self.request.id)), of_task(self):
        try:
            run = _find(self)
            result = _execute(run)
            if result.metadata.get("retryable") and run.attempts >= environment_settings().max_attempts:
                result = runtime.run(run.record_failure(result))
        except StorageError as error:
            self.again(_refused(self, error.error_type, str(error)))
        if result.metadata.get("retryable"):
            self.again(result)
        if not result.metadata.get("replayed"):
            _measure(run, result)
        return self.end(result)


def _measure(run: RunExecutor, result: ModelResult) -> None:
    """Count the rows by outcome in the metrics."""
    counts = vars(run.counts) if result.success else {"rows_rejected": run.counts.rows_rejected}
    rows = {name.removeprefix("rows_"): count for name, count in counts.items() if name.startswith("rows_")}
    metrics.imported(run.name, rows=rows)


def _execute(run: RunExecutor) -> ModelResult:
    try:
        return runtime.run(run.execute())
    except RunLocked:
        # Delivered a second time while it is executed: the process that executes it stores the result.
        raise Ignore from None
    except SoftTimeLimitExceeded:
        late = ImportBroken(ErrorType.TIME_LIMIT_EXCEEDED, "the import did not end within its time limit")
        return runtime.run(run.record_failure(run.failed(late)))


def _find(task: ImportTask) -> RunExecutor:
    """Return the execution of the run that the message names.

    Raises StorageOperationFailed, or StorageError from PostgreSQL.
    """
    settings = environment_settings()
    request = task.request
    try:
        run_id = UUID(str(request.id))
        found = runtime.on_connection(import_runs.find, run_id)
        if found is None:
            raise ValueError(f"no import run has the id {run_id}; start one with 'pattern-storage imports run'")
    except ValueError as error:
        raise StorageOperationFailed(_refused(task, ErrorType.VALIDATION_ERROR, str(error)).to_dict()) from None
    refusal = None
    try:
        plan = ImportPlan.model_validate(found.plan)
    except ValidationError as error:
        # Beat was upgraded before this worker: a worker of the new version may do the next attempt.
        refusal = SchemaMismatch(f"this worker's version cannot read the plan of the run: {explain(error)}")
        plan = ImportPlan.model_construct(name=found.name, source="", format="jsonl")
    return RunExecutor(
        runtime.runtime().pool,
        plan,
        run_id,
        rejects=settings.data_dir / "imports",
        seconds=settings.import_time_limit,
        delay=settings.relay_republish_delay,
        max_attempts=settings.max_attempts,
        report=lambda progress: task.report(progress, str(run_id), request.hostname),
        force=found.force,
        refusal=refusal,
        last_failure=last_failure(request),
    )


def _refused(task: ImportTask, error_type: str, error: str) -> ModelResult:
    return ModelResult.failure(
        error, error_type, correlation_id=str(task.request.id), operation=IMPORT_OPERATION, duration_ms=0.0
    )
