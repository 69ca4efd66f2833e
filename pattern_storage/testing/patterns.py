"""Factories of valid patterns and contracts, each with a name that no other has, in this process or another."""

from itertools import count
from typing import Any
from uuid import uuid4

from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage

_numbers = count(1)


def make_pattern(**changes: Any) -> Any:
    """Return the four required columns of a pattern, with these changes, as a dictionary (`PatternColumns`)."""
    number = next(_numbers)
    return {
        "pattern_name": f"pattern {number} {uuid4().hex[:12]}",
        "pattern_type": "function",
        "language": "python",
        "template_code": f"def f{number}():\n    return {number}\n",
    } | changes


def make_full_pattern(**changes: Any) -> Any:
    """Return all 19 writable columns of a pattern, `parent_pattern_id` as None, with these changes."""
    return (
        make_pattern(
            category="numbers",
            description="Returns a number.",
            example_usage="f()",
            source="tests",
            confidence_score=0.75,
            usage_count=3,
            success_rate=0.9,
            complexity_score=2,
            maintainability_score=0.8,
            performance_score=0.7,
            parent_pattern_id=None,
            is_deprecated=False,
            created_by="tests",
            tags=["number", "test"],
            context={"origin": {"kind": "factory"}},
        )
        | changes
    )


def make_contract(operation: str = "insert", **fields: Any) -> ModelContractPatternStorage:
    """Return a contract. By default an insert has one pattern, and a batch_insert two."""
    if operation == "insert":
        fields.setdefault("data", make_pattern())
    elif operation == "batch_insert":
        fields.setdefault("patterns", [make_pattern(), make_pattern()])
    return ModelContractPatternStorage(operation=operation, **fields)
