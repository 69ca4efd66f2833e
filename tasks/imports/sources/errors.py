"""Translation of fsspec, OS and HTTP errors into ImportBroken (permanent) and ImportDelayed (transient)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from pattern_storage.tasks.errors import ImportBroken, ImportDelayed
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.vocabulary import ErrorType


@contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Translate errors that the file system raises for this path."""
    name = redact(path)
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        # fsspec calls an HTTP server that does not answer a missing file.
        cause = error.__cause__
        if isinstance(cause, aiohttp.ClientResponseError) and cause.status < 500 and cause.status not in (404, 410):
            raise ImportBroken(
                ErrorType.SOURCE_UNREADABLE, f"{name} cannot be read: {cause.status} {cause.message}"
            ) from None
        if isinstance(cause, aiohttp.ClientError | TimeoutError) and getattr(cause, "status", 500) >= 500:
            raise ImportDelayed(ErrorType.SOURCE_UNAVAILABLE, f"{name} cannot be read now: {_reason(cause)}") from None
        raise ImportBroken(ErrorType.SOURCE_MISSING, f"{name} does not exist") from None
    except PermissionError as error:
        raise ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{name} cannot be read: {error.strerror or error}") from None
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise ImportDelayed(ErrorType.SOURCE_UNAVAILABLE, f"{name} cannot be read now: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return the error's message without the queries of URLs in it."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message}"
    return re.sub(r"\?[^\s'\"]+", "", " ".join(str(error).split())) or type(error).__name__
