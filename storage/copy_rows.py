"""Patterns as rows of COPY's binary format.

psycopg cannot encode them, because this runs in another thread than the connection's. The binary format needs no
escaping, and no parsing of numbers: half of what the text format costs here, and an eighth less in PostgreSQL
(docs/performance.md).
https://www.postgresql.org/docs/current/sql-copy.html has the format; each value is its length and what `*recv` reads.
"""

from collections.abc import Mapping
from operator import itemgetter
from struct import Struct
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from pattern_storage.storage.pattern import WRITABLE

#: Before the first row and after the last: signature, no flags, no extension; a row of -1 columns.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_TEXT_OID = 25
_JSONB_VERSION = b"\1"

_length = Struct("!i").pack
_integer = Struct("!ii").pack
_double = Struct("!id").pack
_array = Struct("!iiiIii").pack

_NULL = _length(-1)
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"
_EMPTY_ARRAY = Struct("!iiiI").pack(12, 0, 0, _TEXT_OID)

_columns_of = itemgetter(*WRITABLE)


class JsonText(str):
    """A context that is JSON already."""

    __slots__ = ()


#: The beginning of a row that has only the writable columns.
UNPLACED = Struct("!h").pack(len(WRITABLE))
_placed = Struct("!hiiiq").pack


def placed(file: int, line: int) -> bytes:
    """Return the beginning of a row of the staging table: the number of its columns, then its file and line."""
    return _placed(2 + len(WRITABLE), 4, file, 8, line)


def encode(values: Mapping[str, Any], beginning: bytes = UNPLACED) -> bytes:
    """Return checked values of all writable columns as a row.

    Args:
        values: of one row, by column.
        beginning: UNPLACED, or `placed` for the staging table.
    """
    parts = [beginning]
    add = parts.append
    # By type, the most frequent first; called for millions of values.
    for value in _columns_of(values):
        kind = type(value)
        if kind is str:
            text = value.encode()
            add(_length(len(text)))
            add(text)
        elif value is None:
            add(_NULL)
        elif kind is float:
            add(_double(8, value))
        elif kind is int:
            add(_integer(4, value))
        elif kind is bool:
            add(_TRUE if value else _FALSE)
        elif kind is list:
            add(_texts(value))
        elif kind is UUID:
            add(_length(16))
            add(value.bytes)
        else:
            json = value.encode() if kind is JsonText else to_json(value, inf_nan_mode="constants")
            add(_length(1 + len(json)))
            add(_JSONB_VERSION)
            add(json)
    return b"".join(parts)


def _texts(values: list[str]) -> bytes:
    if not values:
        return _EMPTY_ARRAY
    texts = [value.encode() for value in values]
    body = b"".join([_length(len(text)) + text for text in texts])
    return _array(20 + len(body), 1, 0, _TEXT_OID, len(texts), 1) + body
