"""Ids that ascend in time."""

import time
from typing import Any
from uuid import RFC_4122, UUID, uuid4

import pytest

from pattern_storage.storage.ids import new_id
from pattern_storage.tasks.client.outgoing import build, prepare, prepare_insert
from pattern_storage.testing import make_pattern


def test_they_are_of_version_7_and_differ() -> None:
    ids = {new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}


def test_they_begin_with_the_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id().int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("update", {"pattern_id": uuid4(), "data": {"usage_count": 1}}),
        ("delete", {"pattern_id": uuid4()}),
        ("batch_insert", {"patterns": [make_pattern()]}),
    ],
)
def test_jobs_that_the_ledger_keeps_have_them_unless_the_caller_chooses_another(
    operation: str, fields: dict[str, Any]
) -> None:
    chosen = uuid4()
    assert prepare(build(operation, **fields)).correlation_id.version == 7
    assert prepare(build(operation, correlation_id=chosen, **fields)).correlation_id == chosen


@pytest.mark.parametrize("tags", [["a"], ("a",)], ids=["JSON", "a value that is not JSON yet"])
def test_inserts_have_them_too(tags: object) -> None:
    chosen = UUID(int=1)
    pattern = make_pattern(tags=tags)
    assert prepare_insert(pattern).correlation_id.version == 7
    assert prepare_insert(pattern, chosen).correlation_id == chosen


def test_a_query_whose_id_is_not_chosen_has_no_earlier_result() -> None:
    """Only under an id of the caller can an earlier answer be stored, which is removed before it is sent."""
    assert not prepare(build("query", query_params={})).is_reusable
    assert prepare(build("query", query_params={}, correlation_id=uuid4())).is_reusable
