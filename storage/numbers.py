"""Numbers in JSON: refused where a double cannot keep all digits, and spelt in one way in fingerprints.

jsonb, Python and other languages write the same number in different ways: 1e22 is 10000000000000000000000 in jsonb.
"""

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic_core import from_json

SHOWN_DIGITS = 30

#: Anything that a double might not keep: seventeen digits, or an exponent of three. A hit may well be harmless.
_SUSPECT = re.compile(rb"[0-9.]{17}|[0-9][eE][-+]?[0-9]{3}")

#: A first look that costs a tenth: without signs, and with one digit for all and for the point, both are plain texts.
_SIMILAR = bytes.maketrans(b"123456789.E", b"0000000000e")
_SIGNS = b"+-"
_LONG, _EXPONENT = b"0" * 17, b"0e000"

#: What `json.dumps(value, sort_keys=True)` does, which makes an encoder each time.
sorted_json = json.JSONEncoder(sort_keys=True).encode


class NumberInexact(ValueError):
    """A number in JSON has digits that a double cannot keep."""


def loads(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError if it is invalid, nests too deeply, or has a number that would lose digits."""
    value = from_json(text)
    check(text)
    return value


def are_json(value: Any) -> bool:
    """Whether JSON has all numbers in a value: it has no NaN and no infinite ones, which Python's parsers take."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def check(text: str | bytes) -> None:
    """Raise NumberInexact for JSON with a number that a double cannot keep. Invalid JSON passes."""
    # No number has a surrogate.
    given = text.encode(errors="replace") if isinstance(text, str) else text
    similar = given.translate(_SIMILAR, _SIGNS)
    if (_LONG not in similar and _EXPONENT not in similar) or _SUSPECT.search(given) is None:
        return
    try:
        json.loads(text, parse_float=_exact)
    except NumberInexact:
        raise
    except (ValueError, RecursionError):
        return


def _exact(text: str) -> float:
    number = float(text)
    try:
        is_kept = math.isfinite(number) and Decimal(text) == Decimal(repr(number))
    except InvalidOperation:  # an exponent that is too large even for a Decimal
        is_kept = False
    if not is_kept:
        shown = text if len(text) <= SHOWN_DIGITS else f"{text[:SHOWN_DIGITS]}…"
        raise NumberInexact(f"the number {shown} has more digits than can be kept; send it as a text")
    return number


def canonical_json(value: Any, text: str | None = None) -> str:
    """Return the JSON of a value in which equal numbers are spelt alike: a float that is whole as an integer.

    `text` is its JSON with sorted keys, where that is known already.
    """
    if _has_whole_float(value):
        return sorted_json(_by_value(value))
    return sorted_json(value) if text is None else text


def _has_whole_float(value: Any) -> bool:
    """Whether it has a float that jsonb, or another language, writes as a whole number."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is str:
            continue
        if isinstance(item, float):
            if item.is_integer():
                return True
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False


def _by_value(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        # The decimal text decides, as in jsonb: 1e23 is a one with 23 zeros, and the nearest double is not.
        written = Decimal(repr(value))
        return int(written) if written == written.to_integral_value() else value
    if isinstance(value, dict):
        return {key: _by_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_by_value(item) for item in value]
    return value
