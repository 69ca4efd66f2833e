"""Named blocks of SQL: `-- name: x` starts block x in any of this folder's .sql files, `{{x}}` puts it into another."""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)
_INCLUDED = re.compile(r"\{\{(\w+)\}\}")


@cache
def _blocks() -> dict[str, LiteralString]:
    # The text comes from our own package, which is what LiteralString stands for.
    found: dict[str, LiteralString] = {}
    for file in files(__package__).iterdir():
        if file.name.endswith(".sql"):
            _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                if name in found:
                    raise ValueError(f"SQL block {name!r} is defined twice, the second time in {file.name}")
                found[name] = _COMMENT.sub("", text).strip()
    return {name: _with_included(text, found) for name, text in found.items()}


def _with_included(text: LiteralString, blocks: dict[str, LiteralString]) -> LiteralString:
    return _INCLUDED.sub(lambda name: _with_included(blocks[name[1]], blocks), text)


def block(name: str) -> LiteralString:
    """Return the SQL of the named block, without its comments. Raises KeyError for an unknown name."""
    return _blocks()[name]
