"""Labels of jobs, which name a job's pattern also where its own record has only an id, such as that of a delete."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row, tuple_row

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class JobLabel:
    """A job's operation and pattern, as far as its record and the patterns have them.

    Attributes:
        correlation_id: the job.
        operation: its operation.
        pattern_name: of its pattern; of a batch, of the first.
        pattern_id: of the pattern that it changes or removes.
        patterns: number of patterns of a batch.
        due: when a delayed job is to begin; None for one that may begin at once.
    """

    correlation_id: UUID
    operation: str | None
    pattern_name: str | None
    pattern_id: str | None
    patterns: int | None = None
    due: datetime | None = None

    def __str__(self) -> str:
        operation = self.operation or "a job"
        if self.patterns is not None:
            first = f", first {self.pattern_name}" if self.pattern_name else ""
            return f"{operation} {self.patterns:,} pattern{'' if self.patterns == 1 else 's'}{first}"
        if self.pattern_name:
            return f"{operation} {self.pattern_name}"
        return f"{operation} of pattern {self.pattern_id}" if self.pattern_id else operation


async def find(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, JobLabel]:
    """Return the labels of jobs that PostgreSQL knows, in one query."""
    labels = await fetch_all(connection, class_row(JobLabel), block("job_labels"), {"ids": list(ids)})
    return {label.correlation_id: label for label in labels}


async def pattern_names(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the names of the patterns that exist."""
    return dict(await fetch_all(connection, tuple_row, block("pattern_names"), {"ids": list(ids)}))


async def ids_that_begin(connection: Connection, first: UUID, last: UUID) -> list[UUID]:
    """Return jobs with an id of this range, two at most: the caller wants to know whether there is just one."""
    return await fetch_all(connection, scalar_row, block("jobs_of_range"), {"first": first, "last": last})
