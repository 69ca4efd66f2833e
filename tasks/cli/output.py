"""Standard output and standard error of the command line, JSON, and words for numbers and times."""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

#: Results go to standard output, everything else to standard error: a script can pipe the one.
out = Console(highlight=False, markup=False)
#: Sentences are not wrapped: a terminal does that itself, and a log or pipe wants one line.
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

#: Errors of a file, a disk or a quota that is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def flush_output() -> Iterator[None]:
    """Write the output of the block before it ends. Raises OSError if that is not possible.

    Otherwise Python writes it as the last thing it does, and prints a traceback where a disk is full. As with Click, a
    reader that has closed the pipe ends the program with code 1 and no message.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, *FULL):
            raise
        # Python would try to write the rest again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            raise SystemExit(1) from None
        raise


def print_json(value: Any) -> None:
    """Print one JSON document, never wrapped or coloured."""
    readable = out.encoding.startswith("utf")
    out.out(json.dumps(value, ensure_ascii=not readable, indent=2), highlight=False)


def utc(moment: datetime | None) -> str | None:
    """Return a time in UTC, to the second, as tables show it."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun, such as "1 job" or "2,000 jobs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
