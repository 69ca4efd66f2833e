"""Results of the batches of a file: each is waited for, until one has none in time."""

from typing import Any, cast
from uuid import uuid4

import pytest
import typer

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.cli.operations import _finish_many
from pattern_storage.tasks.client import Job, JobTimeout


class StubJob:
    """A job that has a result at once, or never; it keeps the time-outs that it was asked with."""

    def __init__(self, has_result: bool) -> None:
        self.correlation_id = uuid4()
        self._has_result = has_result
        self.timeouts: list[float] = []

    def result(self, timeout: float) -> ModelResult:
        self.timeouts.append(timeout)
        if not self._has_result:
            raise JobTimeout(self.correlation_id, timeout, "QUEUED")
        metadata: dict[str, Any] = {"correlation_id": str(self.correlation_id)}
        return ModelResult(success=True, data={"count": 1}, error=None, metadata=metadata)


def test_without_a_worker_only_one_batch_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [StubJob(has_result) for has_result in (True, False, True, False)]
    with pytest.raises(typer.Exit) as ended:
        _finish_many(cast("list[Job]", jobs), 30.0, as_json=False)
    assert ended.value.exit_code == 3
    assert [job.timeouts for job in jobs] == [[30.0], [30.0], [0.0], [0.0]]
    said = capsys.readouterr()
    assert "2 stored in 4 batches" in said.out
    assert "2 of 4 batches have no result yet" in said.err
