"""The words of the public JSON are written down once, and each says what it means."""

import ast
import inspect
import json
from enum import StrEnum
from itertools import pairwise
from uuid import uuid4

import pytest

from pattern_storage import vocabulary
from pattern_storage.storage import ModelResult, errors
from pattern_storage.vocabulary import ErrorType, ImportRunState, JobState, OperationName


@pytest.mark.parametrize("words", [ErrorType, ImportRunState, JobState, OperationName])
def test_every_word_is_explained(words: type[StrEnum]) -> None:
    module = ast.parse(inspect.getsource(vocabulary))
    body = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == words.__name__).body
    explained = {
        target.id
        for assignment, text in pairwise(body)
        if isinstance(assignment, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        for target in assignment.targets
        if isinstance(target, ast.Name)
    }
    assert explained == set(words.__members__)


def _kinds(error: type[errors.StorageError]) -> set[ErrorType]:
    return {error.error_type}.union(*map(_kinds, error.__subclasses__()))


def test_every_error_of_storage_has_a_word() -> None:
    assert all(isinstance(kind, ErrorType) for kind in _kinds(errors.StorageError))


def test_in_json_they_are_plain_text() -> None:
    failure = ModelResult.failure(
        "why", ErrorType.REVOKED, correlation_id=uuid4(), operation=OperationName.INSERT, failed_index=3
    )
    assert not failure.success
    assert failure.error == "why"
    assert {name: type(value) for name, value in failure.metadata.items()} == {
        "correlation_id": str, "operation": str, "duration_ms": type(None), "error_type": str, "failed_index": int,
    }  # fmt: skip
    assert json.loads(json.dumps(JobState.RETRY)) == "RETRY"
