"""Dead letters for an operator's pages: grouped by reason, and a page at a time."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from pattern_storage.storage.dead_letters import LetterFilter
from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block

#: Characters that a list reads of a contract, enough to find its operation and pattern.
CHARACTERS = 2_000
#: Groups in a list at most.
GROUPS = 200
#: Newest letters that are grouped: to take their reasons apart takes a second for a hundred thousand.
GROUPED = 5_000


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
    values = {"characters": CHARACTERS, "limit": limit, "after": after and after[0], "after_id": after and after[1]}
    return await fetch_all(connection, class_row(ListedLetter), block("list_letters"), vars(wanted) | values)
