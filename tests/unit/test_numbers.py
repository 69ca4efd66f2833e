"""The same request has the same fingerprint, however its numbers are spelt; what cannot be kept is refused."""

import hashlib
import json
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.storage import ModelContractPatternStorage, numbers
from pattern_storage.storage.fingerprint import fingerprint, fingerprints
from pattern_storage.tasks.client.outgoing import request_fingerprint
from tests.fix_storage import contract, make_pattern


@pytest.mark.parametrize(
    ("one", "other"),
    [("1e22", "10000000000000000000000"), ("1e23", "1" + 23 * "0"), ("100.0", "100"), ("1E2", "100"), ("-0.0", "0"),
     ("1.50", "1.5"), ("1e-7", "0.0000001"), ("1.7976931348623157e308", "17976931348623157" + 292 * "0"),
     ("[[{\"a\": 1e16}]]", "[[{\"a\": 10000000000000000}]]")],
)  # fmt: skip
def test_one_spelling(one: str, other: str) -> None:
    assert numbers.canonical_json(numbers.loads(one)) == numbers.canonical_json(numbers.loads(other))


@pytest.mark.parametrize(
    ("one", "other"), [("1.5", "1.25"), ("0.1", "0.10000000000000002"), ('"1.0"', '"1"'), ("1e22", "1e23")]
)
def test_different_numbers_stay_different(one: str, other: str) -> None:
    assert numbers.canonical_json(numbers.loads(one)) != numbers.canonical_json(numbers.loads(other))


@pytest.mark.parametrize(
    "text",
    ["0.12345678901234567890", "1e400", "-1e400", "1e-400", "123456789012345678.5", "1e-9999999999999999999"],
)
def test_a_number_that_would_lose_digits(text: str) -> None:
    for given in (f'{{"a": [{text}]}}', f'{{"a": [{text}]}}'.encode()):
        with pytest.raises(ValueError, match=f"the number {text} has more digits than can be kept; send it as a text"):
            numbers.loads(given)


@pytest.mark.parametrize(
    "text", ["0.1", "5e-324", "12345678901234567890123", "0.30000000000000004", "3.141592653589793",
             "1.000000000000000", '"0.12345678901234567890"', '"1e999"']
)  # fmt: skip
def test_a_number_that_is_kept(text: str) -> None:
    assert numbers.loads(text) == json.loads(text)


def older_fingerprint(asked: ModelContractPatternStorage) -> str:
    """What releases before this one computed."""
    request = asked.model_dump(mode="json", include={"operation", "pattern_id", "data", "patterns"})
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("score", [0.25, 1.0])
def test_a_request_of_an_older_release_is_known_again(score: float) -> None:
    asked = contract("insert", data=make_pattern(confidence_score=score))
    older = older_fingerprint(asked)
    assert bytes.fromhex(older) in fingerprints(asked)
    assert older in request_fingerprint(asked).split()


def _changed(**changes: Any) -> ModelContractPatternStorage:
    """Return an update, with these changes to it."""
    fields: dict[str, Any] = {"operation": "update", "pattern_id": "01234567-89ab-cdef-0123-456789abcdef"}
    return ModelContractPatternStorage(**fields | {"data": {"category": "x"}} | changes)


@pytest.mark.parametrize(
    "changes",
    [{"pattern_id": uuid4()}, {"data": {"category": "y"}}, {"operation": "delete", "data": {}}],
)
def test_what_makes_it_another_request(changes: dict[str, Any]) -> None:
    assert fingerprint(_changed(**changes)) != fingerprint(_changed())


def test_other_patterns_make_another_batch() -> None:
    first, second = make_pattern(), make_pattern()
    batches = [contract("batch_insert", patterns=patterns) for patterns in ([first], [second], [first, second])]
    assert len({fingerprint(batch) for batch in batches}) == 3


def test_what_does_not_make_it_another_request() -> None:
    assert fingerprint(_changed(name="n", description="d", version="2")) == fingerprint(_changed())
