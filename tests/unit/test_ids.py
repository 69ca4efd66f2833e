"""Ids that ascend in time."""

import time
from uuid import RFC_4122

from pattern_storage.storage.ids import new_id


def test_they_are_of_version_7_and_differ() -> None:
    ids = {new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}


def test_they_begin_with_the_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id().int >> 80
    assert before <= made <= time.time_ns() // 1_000_000
