"""Filters of job lists: what makes no sense is refused, and a URL carries the rest."""

from uuid import UUID

import pytest

from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.job_filter import Cursor, JobFilter

BAD = [
    ({"states": "lost"}, "states is 'LOST'"),
    ({"operation": "drop"}, "operation is 'drop'"),
    ({"correlation_id": "7"}, "correlation_id is '7'; it should be a UUID"),
    ({"since": "yesterday"}, "since is 'yesterday'"),
    ({"pattern_name": "a\x00b"}, "pattern_name should be text"),
    ({"pattern_name": "x" * 2_000}, "pattern_name has 2,000 characters"),
    ({"nmae": "x"}, "unknown filter 'nmae'"),
]


@pytest.mark.parametrize(("given", "said"), BAD)
def test_a_filter_that_makes_no_sense_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(FilterInvalid, match=said):
        JobFilter.parse(given)


@pytest.mark.parametrize("text", ["", "x", "2026-01-01,x", f"nan,{UUID(int=7)}", f"1e999,{UUID(int=7)}"])
def test_a_cursor_of_somebody_else_is_refused(text: str) -> None:
    for sort in ("time", "duration"):
        with pytest.raises(FilterInvalid):
            Cursor.parse(text, sort)


def test_a_filter_survives_a_url() -> None:
    given = {"states": "DEAD,FAILURE", "operation": "insert", "since": "2026-01-01T00:00:00+00:00"}
    assert JobFilter.parse(given).to_dict() == given
    assert JobFilter().is_empty
