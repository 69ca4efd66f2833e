"""Acknowledgements that go along with claims: one that Redis has not confirmed is sent again."""

from typing import Any

from pattern_storage.tasks.transport.acknowledgements import Acknowledgements


def test_acknowledgements_outlast_a_connection_that_breaks() -> None:
    channel: Any = None
    acks = Acknowledgements(channel)
    acks.keep("one")
    acks.keep("two")
    assert acks.take() == ["one", "two"]
    # The connection broke before there was a reply.
    acks.keep("three")
    assert acks.are_unconfirmed
    assert acks.take() == ["one", "two", "three"]
    acks.confirm()
    assert not acks.are_unconfirmed
    assert acks.take() == []
