"""Dead letters for an operator's pages: grouped by reason, filtered, a page at a time."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block

#: Characters that a list reads of a contract, enough to find its operation and pattern.
CHARACTERS = 2_000
#: Groups in a list at most.
GROUPS = 200
#: Newest letters that are grouped: to take their reasons apart takes a second for a hundred thousand.
GROUPED = 5_000
#: Letters that one action changes at most.
MOST = 100_000


@dataclass(frozen=True)
class LetterFilter:
    """Filter of dead letters; all given conditions must hold. `reason`: see `LetterGroup`."""

    correlation_id: UUID | None = None
    error_type: str | None = None
    reason: str | None = None
    operation: str | None = None
    pattern_name: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class LetterGroup:
    """Dead letters with the same error type, and the same reason but for names and numbers in it."""

    error_type: str
    reason: str
    letters: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class ListedLetter:
    """A dead letter in a list: the beginning of its contract's text, and the bytes of all of it."""

    correlation_id: UUID
    beginning: str
    size: int
    error_type: str
    error: str
    attempts: int
    first_at: datetime
    died_at: datetime


async def groups(connection: Connection) -> list[LetterGroup]:
    """Return the groups of the newest GROUPED letters, the largest first."""
    values = {"limit": GROUPS, "newest": GROUPED}
    return await fetch_all(connection, class_row(LetterGroup), block("letter_groups"), values)


async def page(
    connection: Connection, wanted: LetterFilter, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[ListedLetter]:
    """Return a page, the newest first; `after` is the time and the id of the last one of the page before."""
    values: dict[str, Any] = {"characters": CHARACTERS, "limit": limit}
    values |= {"after": after and after[0], "after_id": after and after[1]}
    return await fetch_all(connection, class_row(ListedLetter), block("list_letters"), asdict(wanted) | values)


async def count(connection: Connection, wanted: LetterFilter) -> int:
    """Return the number of dead letters that the filter lets through."""
    return int(await fetch_value(connection, block("count_letters"), asdict(wanted)))


async def ids(connection: Connection, wanted: LetterFilter) -> list[UUID]:
    """Return the ids of the dead letters that the filter lets through, the oldest first, MOST at most."""
    return await fetch_all(connection, scalar_row, block("letter_ids"), asdict(wanted) | {"limit": MOST})
