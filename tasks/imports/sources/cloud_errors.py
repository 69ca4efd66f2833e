"""Errors of the libraries behind `s3://` and `gs://`, told apart by their classes and attributes.

The libraries are not imported, because they may not be installed. s3fs translates botocore's ClientError into OSError
and lets botocore's other errors through; gcsfs raises HttpError, which is no OSError, and an OSError without a number
for status 403 (s3fs 2026.9.0, gcsfs 2026.10.1).
"""

from typing import Any

_LIBRARIES = frozenset({"aiobotocore", "botocore", "gcsfs", "google", "s3fs"})
#: Base classes of network failures in botocore and google-auth.
_OF_THE_NETWORK = frozenset({"ConnectionError", "HTTPClientError", "TransportError"})


def is_of_cloud(error: BaseException) -> bool:
    """Return whether the error's class is one of the libraries'."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def is_of_network(error: BaseException) -> bool:
    """Return whether the server was not reached."""
    return any(base.__name__ in _OF_THE_NETWORK for base in type(error).__mro__)


def http_status(error: BaseException) -> int | None:
    """Return the status of the server's answer, None if it is not known."""
    for raised in filter(None, (error, error.__cause__)):
        response: Any = getattr(raised, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        if is_of_cloud(raised) and isinstance(code := getattr(raised, "code", None), int):
            return code
    return 403 if isinstance(error, OSError) and str(error).startswith("Forbidden") else None
