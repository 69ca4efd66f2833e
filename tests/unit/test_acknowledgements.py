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
    acks.confirm(acks.take())
    assert not acks.are_unconfirmed
    assert acks.take() == []


def test_a_claim_confirms_only_what_it_took_along() -> None:
    """A flush that fails while a claim is on its way has sent more; only the claim is answered."""
    channel: Any = None
    acks = Acknowledgements(channel)
    acks.keep("one")
    claim = acks.take()
    acks.keep("two")
    flush = acks.take()
    assert (claim, flush) == (["one"], ["one", "two"])
    acks.confirm(claim)
    assert acks.take() == ["two"]
    # Both are answered, the one that was sent first at last.
    acks.keep("three")
    flush = acks.take()
    acks.confirm(flush)
    acks.keep("four")
    acks.confirm(claim)
    assert acks.take() == ["four"]
