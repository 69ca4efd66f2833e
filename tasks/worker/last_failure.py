"""The reason of the last attempt, which the message of the next one brings along.

PostgreSQL, which counts attempts, is often what has failed, and cannot be told.
"""

from typing import Any, NamedTuple

from pattern_storage.storage import ModelResult
from pattern_storage.storage.explanation import printable
from pattern_storage.vocabulary import ErrorType

#: The header with the reason.
HEADER = "last_failure"
#: Characters of a reason.
LONGEST = 1_000


class LastFailure(NamedTuple):
    """Why the attempt before this message failed."""

    error_type: ErrorType
    error: str


def headers(request: Any, result: ModelResult) -> dict[str, Any]:
    """Return the headers of the message that follows an attempt with this result."""
    reason = {"error_type": str(result.metadata.get("error_type")), "error": printable(result.error)[:LONGEST]}
    return {**(request.headers or {}), HEADER: reason}


def last_failure(request: Any) -> LastFailure | None:
    """Return what a message brought along; None for one that was delivered before: its worker was lost since."""
    # As it came: anybody may send a message.
    told = vars(request).get(HEADER)
    if (request.delivery_info or {}).get("redelivered") or not isinstance(told, dict):
        return None
    try:
        return LastFailure(ErrorType(str(told.get("error_type"))), printable(told.get("error"))[:LONGEST])
    except ValueError:
        return None
