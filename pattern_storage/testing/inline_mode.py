"""Inline mode: a job is executed at once, in the database, by the workers' own effect node; there is no queue."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from pattern_storage.config.settings import SettingsInvalid, load_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, ledger, outbox
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.tasks.worker.received_contract import receive
from pattern_storage.tasks.worker.runtime import Runtime
from pattern_storage.testing.interception import NOWHERE, intercepted
from pattern_storage.testing.job_log import JobLog
from pattern_storage.testing.result_documents import result_document


class InlineMode:
    """Executes jobs as they are submitted, and those of the outbox when their status or result is asked for.

    Attributes:
        jobs: the submitted jobs.
        database_url: the migrated database in which they are executed.
    """

    writes_outbox = True

    def __init__(self, database_url: str) -> None:
        self.jobs = JobLog()
        self.database_url = database_url
        settings = load_settings(
            database_url=database_url, redis_url=NOWHERE, pool_min_size=1, pool_max_size=2, pool_timeout=10.0
        )
        self._runtime = Runtime(settings)
        self._documents: dict[UUID, bytes] = {}

    def close(self) -> None:
        """Close the connections."""
        self._runtime.close()

    def accept(self, contract: ModelContractPatternStorage) -> None:
        """See `Mode.accept`: execute the job as a worker does."""
        # By way of JSON: a value that a message cannot carry must not work here.
        fields = json.loads(json.dumps(contract.model_dump(mode="json")))
        job = contract.correlation_id
        try:
            result = self._runtime.run(self._runtime.node.execute_once(receive(contract.operation, str(job), fields)))
        except ContractInvalid as error:
            result = ModelResult.failure(
                str(error), error.error_type, correlation_id=job, operation=contract.operation, duration_ms=0.0
            )
        self._documents[job] = result_document(result)

    def run_outbox(self) -> int:
        """Execute the jobs of the outbox whose transactions have committed, in order; return how many."""
        executed: set[UUID] = set()
        # In several claims, which are limited. A job that failed for a passing reason keeps its row.
        while contracts := [job for job in self._runtime.run(self._claim()) if job.correlation_id not in executed]:
            for contract in contracts:
                # Its effect removes its row.
                self.accept(contract)
                executed.add(contract.correlation_id)
        return len(executed)

    def document(self, correlation_id: UUID) -> bytes | None:
        """See `Mode.document`. Jobs of the outbox are executed first, if the job is not known."""
        if correlation_id not in self._documents:
            self.run_outbox()
        return self._documents.get(correlation_id)

    def cancel(self, correlation_id: UUID) -> ModelResult:
        """See `Job.cancel`."""

        async def cancel() -> ModelResult:
            async with self._runtime.pool.connection() as connection:
                return await ledger.cancel(connection, correlation_id)

        result = self._runtime.run(cancel())
        self._documents.setdefault(correlation_id, result_document(result))
        return result

    async def _claim(self) -> list[ModelContractPatternStorage]:
        async with self._runtime.pool.connection() as connection, connection.transaction():
            return [outbox.read(job.correlation_id, job.contract) for job in await outbox.claim(connection)]


@contextmanager
def inline(database_url: str | None = None) -> Iterator[InlineMode]:
    """Execute the jobs of every client in this process at once, in a migrated database, by default DATABASE_URL's.

    `submit` returns when the job has its result. A job that `submit_in` has written is executed after the commit: when
    its status or result is asked for, or by `run_outbox`. Raises SettingsInvalid if there is no database.
    """
    url = database_url or os.environ.get("DATABASE_URL")
    if not url:
        raise SettingsInvalid("inline() needs a database: pass database_url, or set DATABASE_URL")
    mode = InlineMode(url)
    try:
        with intercepted(mode, DATABASE_URL=mode.database_url):
            yield mode
    finally:
        mode.close()
