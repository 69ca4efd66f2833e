"""Patterns for an operator's pages: one with its relatives, and lists. Never their code."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block

#: Patterns in a list of relatives at most.
RELATIVES = 50


@dataclass(frozen=True)
class PatternRow:
    """A pattern in a list."""

    id: UUID
    pattern_name: str
    pattern_type: str
    language: str
    is_deprecated: bool
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class ShownPattern(PatternRow):
    """A pattern; of its template, its example and its context only their sizes."""

    category: str | None
    description: str | None
    source: str | None
    confidence_score: float
    usage_count: int
    success_rate: float
    complexity_score: int | None
    maintainability_score: float | None
    performance_score: float | None
    tags: list[str]
    parent_pattern_id: UUID | None
    parent_name: str | None
    template_bytes: int
    example_bytes: int | None
    context_bytes: int


async def find(connection: Connection, pattern_id: UUID) -> ShownPattern | None:
    """Return a pattern; None if there is none of this id."""
    patterns = await fetch_all(connection, class_row(ShownPattern), block("show_pattern"), {"id": pattern_id})
    return patterns[0] if patterns else None


async def derived(connection: Connection, pattern_id: UUID) -> list[PatternRow]:
    """Return patterns that name this one as their parent, the newest first."""
    return await _rows(connection, block("derived_patterns"), id=pattern_id, limit=RELATIVES)


async def named(connection: Connection, name: str) -> list[PatternRow]:
    """Return the patterns of a name, of all types and languages."""
    return await _rows(connection, block("named_patterns"), name=name, limit=RELATIVES)


async def changed(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[PatternRow]:
    """Return a page of patterns last written from `since` to `until`, the newest first, behind the place `after`."""
    place = {"after": after and after[0], "after_id": after and after[1]}
    return await _rows(connection, block("changed_patterns"), since=since, until=until, limit=limit, **place)


async def _rows(connection: Connection, statement: LiteralString, **values: object) -> list[PatternRow]:
    return await fetch_all(connection, class_row(PatternRow), statement, values)
