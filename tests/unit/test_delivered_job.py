"""Deliveries of jobs according to their messages, in which a producer may have written anything."""

from typing import Any

import pytest

from pattern_storage.tasks.worker.delivered_job import delivery_from


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"id_is_new": True}, True),
        ({"id_is_new": True, "retries": 0, "delivery_info": {"redelivered": False}}, True),
        ({}, False),
        ({"id_is_new": False}, False),
        ({"id_is_new": "true"}, False),
        ({"id_is_new": True, "retries": 1}, False),
        ({"id_is_new": True, "delivery_info": {"redelivered": True}}, False),
    ],
)
def test_only_the_first_delivery_of_a_new_id_is_new(request_: dict[str, Any], expected: bool) -> None:
    assert delivery_from(request_).is_new is expected


@pytest.mark.parametrize("moment", ["1", None, -1, 0, 1e11, float("nan"), [1]])
def test_moments_that_postgresql_cannot_have_are_left_out(moment: object) -> None:
    delivery = delivery_from({"sent_at": moment, "claimed_at": 5})
    assert (delivery.sent_at, delivery.claimed_at) == (None, 5.0)
