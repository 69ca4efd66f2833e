"""The patterns of a file in batches: sent together, each waited for and reported."""

from datetime import UTC, datetime
from uuid import UUID

import typer

from pattern_storage.storage import ModelResult
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.fields import PatternFile
from pattern_storage.tasks.cli.interrupts import explain_interrupt
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.cli.progress import counting
from pattern_storage.tasks.cli.results import finish
from pattern_storage.tasks.cli.tables import print_list
from pattern_storage.tasks.client import Job, JobTimeout, PatternStorageClient
from pattern_storage.tasks.client.call_options import CallOptions
from pattern_storage.tasks.client.outgoing import build, prepare_insert
from pattern_storage.vocabulary import ErrorType, OperationName

#: Failed batches whose error is printed; 'pattern-storage result ID' tells the others.
SHOWN_FAILURES = 5


class Batches:
    """The batches of a file, `size` patterns each.

    Args:
        file: the patterns, of any shape: the client checks them.
        size: patterns in a batch at most.
        wait: seconds to wait for a result; 0 prints the ids.
        as_json: print JSON.
    """

    def __init__(self, file: PatternFile, size: int, wait: float, as_json: bool) -> None:
        self._file, self._size, self._wait, self._as_json = file, size, wait, as_json
        self._begun = datetime.now(UTC)

    def insert(self, client: PatternStorageClient, correlation_id: UUID | None, options: CallOptions) -> None:
        """Store the patterns, and print what became of them; a single one is an insert. Exits as `finish` does."""
        patterns = self._file.patterns
        count = -(-len(patterns) // self._size)
        if correlation_id is not None and count > 1:
            raise InputInvalid(f"--id names one job, but {len(patterns)} patterns make {count}; raise --batch-size")
        try:
            jobs: list[Job]
            if len(patterns) == 1:
                jobs = [client.insert(patterns[0], correlation_id=correlation_id, **options)]
            elif count == 1:
                jobs = [client.batch_insert(patterns, correlation_id=correlation_id, **options)]
            else:
                # All are checked before the first is sent: a wrong value at the end of a file leaves nothing stored.
                starts = range(0, len(patterns), self._size)
                contracts = [
                    build(OperationName.BATCH_INSERT, patterns=patterns[start : start + self._size]) for start in starts
                ]
                with explain_interrupt(lambda: f"Some of {count:,} batches may have been sent {self._go_on()}"):
                    jobs = client.submit_many(contracts, **options)
        except ContractInvalid:
            self._refuse()
            raise
        if count == 1:
            finish(jobs[0], self._wait, self._as_json, error_of=self._error)
        else:
            self.finish(jobs)

    def finish(self, jobs: list[Job]) -> None:
        """Wait for the batches, print what became of each; exit 1 if one failed, 3 if one has no result yet."""
        if not self._wait:
            ids = [str(job.correlation_id) for job in jobs]
            print_json({"correlation_ids": ids}) if self._as_json else print("\n".join(ids))  # noqa: T201
            return
        results = self._results(jobs)
        if self._as_json:
            print_json([result.to_dict() for result in results])
        else:
            self._print(results)
        waiting = sum(result.metadata.get("error_type") == ErrorType.NO_RESULT_YET for result in results)
        if failed := sum(not result.success for result in results) - waiting:
            err.print(f"{failed} of {len(results)} batches failed and wrote nothing.")
        if waiting:
            err.print(f"{waiting} of {len(results)} batches have no result yet; 'pattern-storage result ID' asks")
        if waiting or failed:
            raise typer.Exit(Exit.UNREACHABLE if waiting else Exit.FAILED)

    def _results(self, jobs: list[Job]) -> list[ModelResult]:
        wait, results = self._wait, list[ModelResult]()

        def interrupted() -> str:
            left = f"{len(jobs) - len(results):,} of {len(jobs):,} batches"
            return f"{left} were sent and not waited for {self._go_on()}"

        with explain_interrupt(interrupted), counting("storing", "batches", len(jobs)) as show:
            for job in jobs:
                results.append(_result_or_timeout(job, wait))
                show(len(results))
                if results[-1].metadata.get("error_type") == ErrorType.NO_RESULT_YET:
                    # Perhaps no worker runs: the others are only looked at, or each would be waited for as long.
                    wait = 0.0
        return results

    def _print(self, results: list[ModelResult]) -> None:
        rows = [
            (
                number,
                result.metadata["correlation_id"],
                result.data["count"] if result.success else f"0 ({result.metadata.get('error_type')})",
            )
            for number, result in enumerate(results, start=1)
        ]
        stored = sum(result.data["count"] for result in results if result.success)
        print_list(("batch", "correlation id", "stored"), rows, title=f"{stored:,} stored in {len(rows)} batches")
        failures = [
            f"batch {index + 1}: {self._error(result, index)}" for index, result in enumerate(results) if result.error
        ]
        for failure in failures[:SHOWN_FAILURES]:
            err.print(failure)
        if any(result.metadata.get("error_type") == ErrorType.UNIQUE_VIOLATION for result in results):
            err.print("'pattern-storage import FILE --on-conflict skip' leaves out patterns that exist already.")

    def _error(self, result: ModelResult, batch: int = 0) -> str | None:
        """Return the error of a batch with the place in the file, instead of an index in the batch."""
        index = result.metadata.get("failed_index")
        if index is None:
            return result.error
        reason = str(result.error).removeprefix(f"Batch insert failed at pattern {index}: ")
        return f"{self._file.place(batch * self._size + index)}: {reason}"

    def _refuse(self) -> None:
        """Raise InputInvalid with the place of the first pattern that the client refuses."""
        for index, pattern in enumerate(self._file.patterns):
            try:
                prepare_insert(pattern)
            except ContractInvalid as error:
                raise InputInvalid(f"{self._file.place(index)}: {error}") from None

    def _go_on(self) -> str:
        """Return how to find the batches that were sent."""
        chosen = f"--state QUEUED --operation batch_insert --since {self._begun:%Y-%m-%dT%H:%M:%SZ}"
        return f"and go on: 'pattern-storage jobs list {chosen}' lists what waits, 'jobs cancel' cancels it."


def _result_or_timeout(job: Job, wait: float) -> ModelResult:
    """Return a job's result, or a failed one where there is none in time: the other jobs' results are still shown."""
    try:
        return job.result(timeout=wait)
    except JobTimeout as error:
        return ModelResult.failure(
            str(error),
            ErrorType.NO_RESULT_YET,
            correlation_id=job.correlation_id,
            operation=OperationName.BATCH_INSERT,
        )
