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

#: Statuses below 500 that may pass: request timeout, too early, too many requests.
TRANSIENT_STATUSES = frozenset({408, 425, 429})
MISSING_STATUSES = frozenset({404, 410})

#: What the operating system says of a name or a file that will be no better at the next attempt.
PERMANENT_ERRNOS = frozenset({errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV, errno.ENXIO})


@contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Translate errors that the file system raises for this path."""
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
    status = getattr(error, "status", None)
    if isinstance(error, aiohttp.InvalidURL):
        return _unreadable(name, "it is no valid URL")
    if status in MISSING_STATUSES:
        return ImportBroken(ErrorType.SOURCE_MISSING, f"{name} does not exist")
    if status is not None and 0 < status < 500 and status not in TRANSIENT_STATUSES:
        return _unreadable(name, _reason(error))
    reason = f"{name} cannot be read now: {_reason(error)}"
    wait = retry_after(getattr(error, "headers", None))
    return ImportDelayed(ErrorType.SOURCE_UNAVAILABLE, reason, **({} if wait is None else {"retry_after": wait}))


def _cloud_failure(name: str, error: Exception) -> ImportFailed:
    status = http_status(error)
    if status in MISSING_STATUSES:
        return ImportBroken(ErrorType.SOURCE_MISSING, f"{name} does not exist")
    # The text of gcsfs' errors is the page that the server sent.
    reason = _reason(error) if status is None else f"{status} {responses.get(status, '')}".strip()
    if is_of_network(error) or (status is not None and (status >= 500 or status in TRANSIENT_STATUSES)):
        return ImportDelayed(ErrorType.SOURCE_UNAVAILABLE, f"{name} cannot be read now: {reason}")
    return _unreadable(name, reason)


def retry_after(headers: Any) -> float | None:
    """Return the seconds that a server's Retry-After asks for, a number or a date; None if it says nothing."""
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
