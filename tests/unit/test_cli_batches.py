"""Results of the batches of a file: each is waited for, until one has none in time."""

from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import typer

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.cli.batches import Batches
from pattern_storage.tasks.cli.fields import PatternFile
from pattern_storage.tasks.cli.results import finish
from pattern_storage.tasks.client import Job, JobTimeout

SUCCESS = {"success": True, "data": {"count": 1}}
DUPLICATE = {
    "success": False,
    "error": "Batch insert failed at pattern 1: Pattern already exists: a (b/c)",
    "metadata": {"error_type": "unique_violation", "failed_index": 1},
}


class StubJob:
    """A job that has this result at once, or never, or is interrupted; it keeps the time-outs it was asked with."""

    def __init__(self, result: dict[str, Any] | KeyboardInterrupt | None) -> None:
        self.correlation_id = uuid4()
        self._result = result
        self.timeouts: list[float] = []

    def result(self, timeout: float) -> ModelResult:
        self.timeouts.append(timeout)
        if isinstance(self._result, KeyboardInterrupt):
            raise self._result
        if self._result is None:
            raise JobTimeout(self.correlation_id, timeout, "QUEUED")
        metadata = {"correlation_id": str(self.correlation_id)} | self._result.get("metadata", {})
        return ModelResult.model_validate(self._result | {"metadata": metadata})


def run(*jobs: StubJob) -> None:
    """Finish batches of two patterns each, from a file with an empty line after the second."""
    lines = [1, 2, *range(4, 4 + 2 * len(jobs))]
    file = PatternFile(Path("some.jsonl"), [{}] * 2 * len(jobs), lines)
    Batches(file, 2, 30.0, as_json=False).finish(cast("list[Job]", jobs))


def test_without_a_worker_only_one_batch_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [StubJob(result) for result in (SUCCESS, None, SUCCESS, None)]
    with pytest.raises(typer.Exit) as ended:
        run(*jobs)
    assert ended.value.exit_code == 3
    assert [job.timeouts for job in jobs] == [[30.0], [30.0], [0.0], [0.0]]
    said = capsys.readouterr()
    assert "2 stored in 4 batches" in said.out
    assert "2 of 4 batches have no result yet" in said.err


def test_a_failure_names_the_line_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        run(StubJob(SUCCESS), StubJob(DUPLICATE))
    assert ended.value.exit_code == 1
    said = capsys.readouterr()
    assert "0 (unique_violation)" in said.out
    assert said.err.splitlines() == [
        "batch 2: some.jsonl, line 5: Pattern already exists: a (b/c)",
        "'pattern-storage import FILE --on-conflict skip' leaves out patterns that exist already.",
        "1 of 2 batches failed and wrote nothing.",
    ]


def test_an_interrupt_says_which_jobs_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(StubJob(SUCCESS), StubJob(KeyboardInterrupt()), StubJob(SUCCESS))
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(
        "2 of 3 batches were sent and not waited for and go on: "
        "'pattern-storage jobs list --state QUEUED --operation batch_insert --since 20"
    )
    job = StubJob(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        finish(cast("Job", job), 30.0, as_json=False)
    assert capsys.readouterr().err == (
        f"The job {job.correlation_id} goes on: 'pattern-storage result {job.correlation_id}' tells its result,"
        f" 'pattern-storage jobs cancel {job.correlation_id}' cancels it.\n"
    )
