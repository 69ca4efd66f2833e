"""The script's own tests: `pytest`, with the servers of the testing kit."""

import pytest
import store

from pattern_storage.testing import InlineMode, RecordedMode


def test_ten_patterns_are_stored(inline_jobs: InlineMode, capsys: pytest.CaptureFixture[str]) -> None:
    store.main()
    assert capsys.readouterr().out.count("stored") == 10
    store.main()
    assert capsys.readouterr().out.count("Pattern already exists") == 10
    inline_jobs.jobs.assert_enqueued(operation="insert", count=20)


def test_no_result_yet(recorded_jobs: RecordedMode, capsys: pytest.CaptureFixture[str]) -> None:
    store.main()
    assert capsys.readouterr().out.count("no result yet") == 10
    recorded_jobs.jobs.assert_enqueued(pattern_name="Script7", count=1)
