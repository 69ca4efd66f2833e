"""Acknowledgements that go along with claims: one that Redis has not confirmed is sent again."""

from typing import Any

from pattern_storage.tasks.transport.claim_call import ClaimCall


def test_acknowledgements_outlast_a_connection_that_breaks() -> None:
    channel: Any = None
    call = ClaimCall(channel, lambda: True)
    call.acks.extend(["one", "two"])
    assert call.take_acks() == ["one", "two"]
    # The connection broke before there was a reply.
    call.acks.append("three")
    assert call.has_unconfirmed_acks
    assert call.take_acks() == ["one", "two", "three"]
    call.confirm_acks()
    assert not call.has_unconfirmed_acks
    assert call.take_acks() == []
