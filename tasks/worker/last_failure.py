"""The reason why an attempt failed, which travels in the message of the next attempt.

PostgreSQL, which counts attempts, cannot store it: it is often PostgreSQL that has failed.
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
    """The reason why the attempt before this message failed."""

    error_type: ErrorType
    error: str


def headers(request: Any, result: ModelResult) -> dict[str, Any]:
    """Return the headers of the message for the next attempt after one with this result."""
    reason = {"error_type": str(result.metadata.get("error_type")), "error": printable(result.error)[:LONGEST]}
    return {**(request.headers or {}), HEADER: reason}


def last_failure(request: Any) -> LastFailure | None:
    """Return the reason in a message; None for a message that was delivered before: its worker was lost since."""
    # Not validated: anybody may send a message.
    reason = vars(request).get(HEADER)
    if (request.delivery_info or {}).get("redelivered") or not isinstance(reason, dict):
        return None
    try:
        return LastFailure(ErrorType(str(reason.get("error_type"))), printable(reason.get("error"))[:LONGEST])
    except ValueError:
        return None
