"""JSON of messages: parsed as kombu parses it, by a faster parser where it can be."""

import json
import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads

from pattern_storage.tasks.transport.message import Unreadable, load, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_as_kombu_does(value: Any) -> None:
    text = json.dumps(value)
    assert repr(parse(text)) == repr(parse(text.encode())) == repr(loads(text))


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        "[" * 199 + "]" * 199,
        '{"a": 1, "a": 2}',
        "-0",
        "-0.0",
        "1e400",
        "Infinity",
        "1E5",
        "12345678901234567890123",
    ],
)
def test_what_parsers_differ_in(text: str) -> None:
    assert repr(parse(text)) == repr(loads(text))


def test_not_a_number() -> None:
    assert math.isnan(parse("NaN"))


def test_types_of_python() -> None:
    value = {"id": UUID(int=7)}
    assert parse(dumps(value)) == parse(dumps(value).encode()) == value


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"", b"[" * 100_000])
def test_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        load(raw)
