"""Errors of the libraries behind `s3://` and `gs://`, told apart by what they carry.

Nothing is imported of the libraries, because they may not be installed. s3fs translates botocore's ClientError into
OSError and lets the rest of botocore through; gcsfs raises HttpError, which is no OSError, and an OSError without a
number where it is forbidden (s3fs 2026.9.0, gcsfs 2026.10.1).
"""

from typing import Any

_LIBRARIES = frozenset({"aiobotocore", "botocore", "gcsfs", "google", "s3fs"})
#: Base classes of what a network does: botocore's and google-auth's.
_OF_THE_NETWORK = frozenset({"ConnectionError", "HTTPClientError", "TransportError"})


def is_of_cloud(error: BaseException) -> bool:
    """Return whether one of the libraries' own classes was raised."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def is_of_network(error: BaseException) -> bool:
    """Return whether the server was not reached."""
    return any(base.__name__ in _OF_THE_NETWORK for base in type(error).__mro__)


def http_status(error: BaseException) -> int | None:
    """Return the status that the server answered with; None if none is known."""
    for one in (error, error.__cause__):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        if one is not None and is_of_cloud(one) and isinstance(code := getattr(one, "code", None), int):
            return code
    return 403 if isinstance(error, OSError) and str(error).startswith("Forbidden") else None
