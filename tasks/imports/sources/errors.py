"""Translation of fsspec, OS and HTTP errors into ImportBroken (permanent) and ImportDelayed (transient)."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Any

import aiohttp

from pattern_storage.tasks.errors import ImportBroken, ImportDelayed, ImportFailed
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.tasks.imports.sources.cloud_errors import http_status, is_of_cloud, is_of_network
from pattern_storage.vocabulary import ErrorType

#: Transient statuses below 500: request timeout, too early, too many requests.
TRANSIENT_STATUSES = frozenset({408, 425, 429})
MISSING_STATUSES = frozenset({404, 410})

#: Errors of the operating system that no later attempt would change.
PERMANENT_ERRNOS = frozenset({errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV, errno.ENXIO})


@contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Translate the errors of the file system that has this path."""
    name = redact(path)
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        # fsspec calls an HTTP server that does not answer a missing file.
        if isinstance(error.__cause__, aiohttp.ClientError | TimeoutError):
            raise _http_failure(name, error.__cause__) from None
        raise ImportBroken(ErrorType.SOURCE_MISSING, f"{name} does not exist") from None
    except PermissionError as error:
        raise _unreadable(name, error.strerror or str(error)) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _http_failure(name, error) from None
    except Exception as error:
        if is_of_cloud(error) or http_status(error):
            raise _cloud_failure(name, error) from None
        if not isinstance(error, OSError):
            raise
        if error.errno in PERMANENT_ERRNOS:
            raise _unreadable(name, error.strerror or str(error)) from None
        raise ImportDelayed(ErrorType.SOURCE_UNAVAILABLE, f"{name} cannot be read now: {_reason(error)}") from None


def _http_failure(name: str, error: BaseException) -> ImportFailed:
    if isinstance(error, aiohttp.InvalidURL):
        return _unreadable(name, "it is no valid URL")
    status = getattr(error, "status", None) or None
    return _failure(name, status, _reason(error), error, reached=status is not None)


def _cloud_failure(name: str, error: Exception) -> ImportFailed:
    status = http_status(error)
    # The text of gcsfs' errors is the page that the server sent.
    reason = _reason(error) if status is None else f"{status} {responses.get(status, '')}".strip()
    return _failure(name, status, reason, error, reached=not is_of_network(error))


def _failure(name: str, status: int | None, reason: str, error: BaseException, *, reached: bool) -> ImportFailed:
    """Return the error for a server that was not reached, or for its answer with this status."""
    if status in MISSING_STATUSES:
        return ImportBroken(ErrorType.SOURCE_MISSING, f"{name} does not exist")
    if reached and (status is None or (status < 500 and status not in TRANSIENT_STATUSES)):
        return _unreadable(name, reason)
    wait = retry_after(getattr(error, "headers", None))
    details = {} if wait is None else {"retry_after": wait}
    return ImportDelayed(ErrorType.SOURCE_UNAVAILABLE, f"{name} cannot be read now: {reason}", **details)


def retry_after(headers: Any) -> float | None:
    """Return the seconds of a server's Retry-After, a number or a date; None without a valid one."""
    value = str(headers.get("Retry-After", "")) if headers else ""
    if re.fullmatch(r"\d{1,9}", value.strip(), re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _unreadable(name: str, reason: str) -> ImportBroken:
    return ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{name} cannot be read: {reason}")


def _reason(error: BaseException) -> str:
    """Return the error's message without the queries of URLs in it."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message}"
    return re.sub(r"\?[^\s'\"]+", "", " ".join(str(error).split())) or type(error).__name__
