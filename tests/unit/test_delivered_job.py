"""Deliveries of jobs according to their messages, in which a producer may have written anything."""

from typing import Any

import pytest
from celery.app.task import Context

from pattern_storage.tasks.second_delivery import is_delivered_again
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


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, False),
        ({"retries": 0, "delivery_info": None}, False),
        ({"retries": None, "delivery_info": {"redelivered": False}}, False),
        ({"retries": 1, "delivery_info": {}}, True),
        ({"retries": 0, "delivery_info": {"redelivered": True}}, True),
    ],
)
def test_a_retry_and_a_message_that_was_put_back_are_delivered_again(request_: dict[str, Any], expected: bool) -> None:
    assert is_delivered_again(request_) is expected
    # As a task has it, with Celery's defaults.
    assert is_delivered_again(vars(Context(request_))) is expected


@pytest.mark.parametrize("moment", ["1", None, -1, 0, 1e11, float("nan"), [1]])
def test_moments_that_postgresql_cannot_have_are_left_out(moment: object) -> None:
    delivery = delivery_from({"sent_at": moment, "claimed_at": 5})
    assert (delivery.sent_at, delivery.claimed_at) == (None, 5.0)
