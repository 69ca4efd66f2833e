"""Quick check of a pattern's columns: its JSON, without building a `Pattern`, in less than half of the time.

Pydantic's compiled part checks types and limits; the rules that are functions in `Pattern` are asked of the JSON text.
Columns that do not pass here may be a pattern all the same, and `Pattern` says what is wrong if they are none.
"""

from typing import Any

from pydantic_core import CoreConfig, SchemaValidator, from_json, to_json

from pattern_storage.storage.pattern import MAX_CONTEXT_BYTES, MAX_CONTEXT_DEPTH, MAX_TEXT_BYTES, Pattern


def _compiled(schema: Any) -> Any:
    """Return a pydantic-core schema without the functions around what it checks itself."""
    if isinstance(schema, dict):
        if schema.get("type") in ("function-after", "function-before"):
            return _compiled(schema["schema"])
        return {name: _compiled(value) for name, value in schema.items()}
    return [_compiled(one) for one in schema] if isinstance(schema, list) else schema


#: Unknown columns, and those that the database sets, are none of the model's fields.
_has_types = SchemaValidator(
    _compiled(dict(Pattern.__pydantic_core_schema__)["schema"]),
    CoreConfig(strict=True, extra_fields_behavior="forbid"),
).isinstance_python


def checked_json(columns: dict[str, Any]) -> bytes | None:
    """Return the columns as JSON if `Pattern` takes them; None if it does not, or that is not told quickly."""
    if not _has_types(columns):
        return None
    try:
        text = to_json(columns)
    except ValueError:
        return None
    # The second is how JSON has a NUL character; what only looks like one is looked at again.
    if len(text) > MAX_TEXT_BYTES or b"\\u0000" in text:
        return None
    return text if _is_json(columns.get("context", {})) else None


def _is_json(context: dict[str, Any]) -> bool:
    """Whether it is of JSON's own types, and surely within the limits of size and depth."""
    text = to_json(context)
    # Spaces that the rule counts between values are fewer than the rest.
    if 2 * len(text) > MAX_CONTEXT_BYTES or text.count(b"[") + text.count(b"{") > MAX_CONTEXT_DEPTH:
        return False
    try:
        return bool(from_json(text, allow_inf_nan=False) == context)
    except ValueError:
        return False
