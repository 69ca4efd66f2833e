"""The fast validation of an import's rows decides as that of an insert does, and what it passes is stored the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import to_json

from pattern_storage.storage.copy_rows import JsonText, encode
from pattern_storage.storage.pattern import WRITABLE, Pattern
from pattern_storage.tasks.imports.run.small_row import SMALL, SmallPattern, validate_line

MINIMUM: dict[str, Any] = {"pattern_name": "a", "pattern_type": "code", "language": "go", "template_code": "x"}


def test_both_have_the_same_columns_and_defaults() -> None:
    assert tuple(SmallPattern.model_fields) == WRITABLE
    assert SmallPattern(**MINIMUM).__dict__ == Pattern(**MINIMUM).__dict__


def stored(validate: Callable[[str], Pattern | SmallPattern], line: str) -> tuple[bytes, object] | str:
    """Return what COPY would be given, with the context apart because it has several spellings, or the error."""
    try:
        values = validate(line).__dict__
    except ValidationError as error:
        return str(error)
    context = values["context"]
    text = context if isinstance(context, JsonText) else to_json(context, inf_nan_mode="constants")
    return encode(values | {"context": {}}), json.loads(text)


def read(line: str) -> tuple[bytes, object] | str:
    return stored(lambda line: validate_line(line.encode()), line)


def expected(line: str) -> tuple[bytes, object] | str:
    return stored(Pattern.model_validate_json, line)


@pytest.mark.parametrize(
    "line",
    [
        *(json.dumps(MINIMUM | {column: "a\0b"}) for column in ("pattern_name", "description", "created_by")),
        json.dumps(MINIMUM | {"tags": ["a\0"]}),
        json.dumps(MINIMUM | {"context": {"a": {"b": "\0"}}}),
        json.dumps(MINIMUM | {"context": {"\0": 1}}),
        json.dumps(MINIMUM | {"tags": ["", 'a"b', "c\\d", "e,f", "{", "NULL"], "context": {"Infinity": "NaN"}}),
        json.dumps(MINIMUM | {"context": {"n": 1}}).replace("1}", "1e999}"),
        json.dumps(MINIMUM | {"context": {"n": 1}}).replace("1}", "-1" + "0" * 400 + ".5}"),
        json.dumps(MINIMUM | {"context": {"n": float("nan")}}),
        json.dumps(MINIMUM | {"context": {"a": json.loads("[" * 101 + "]" * 101)}}),
        json.dumps(MINIMUM | {"template_code": "x" * (1024 * 1024 + 1)}),
        json.dumps(MINIMUM | {"template_code": "[" * 200}),
        json.dumps(MINIMUM | {"created_at": "2026-01-01"}),
        json.dumps(MINIMUM | {"patern_name": "x"}),
        *(json.dumps(MINIMUM | {"confidence_score": number}) for number in (1, 1.5, float("nan"), float("-inf"))),
        json.dumps(MINIMUM | {"usage_count": True}),
        json.dumps(MINIMUM | {"parent_pattern_id": "6f2c1b1e-5b0e-4a57-9a3c-2f3f0d9f5c11"}),
        json.dumps(MINIMUM | {"parent_pattern_id": "x"}),
        json.dumps({"pattern_name": "a"}),
        json.dumps(MINIMUM)[:-1],
        "7",
    ],
)
def test_both_decide_alike(line: str) -> None:
    assert read(line) == expected(line)


texts = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {"pattern_name": texts, "pattern_type": st.text(max_size=3), "language": st.just("go"), "template_code": texts},
    optional={
        "description": texts | st.none(),
        "confidence_score": st.floats(-0.5, 1.5),
        "complexity_score": st.integers(-1, 12),
        "tags": st.lists(texts, max_size=4),
        "context": st.dictionaries(texts, values, max_size=3) | values,
    },
)


@settings(max_examples=300, deadline=None)
@given(rows, st.booleans())
def test_both_decide_alike_on_anything(row: dict[str, Any], ascii_only: bool) -> None:
    line = json.dumps(row, ensure_ascii=ascii_only)
    try:
        line.encode()
    except UnicodeEncodeError:
        return
    assert read(line) == expected(line)


def test_most_lines_are_small() -> None:
    line = json.dumps(MINIMUM | {"context": {"a": 1}}).encode()
    assert type(validate_line(line)) is SmallPattern
    assert type(validate_line(line + b" " * SMALL)) is Pattern
