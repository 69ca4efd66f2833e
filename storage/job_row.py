"""A job as a list has it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class JobRow:
    """A job in a list. `at`: when it ended, died, was written or began; times have a zone, durations are in ms.

    Old jobs, and those of other applications, lack what was not recorded.
    """

    correlation_id: UUID
    operation: str | None
    pattern_name: str | None
    state: str
    error_type: str | None
    error: str | None
    attempts: int
    queue: str | None
    worker: str | None
    sent_at: datetime | None
    duration_ms: float | None
    at: datetime

    @property
    def waited_ms(self) -> float | None:
        """Milliseconds from its submission to its last attempt, once it has ended."""
        if self.sent_at is None or self.duration_ms is None:
            return None
        return max((self.at - self.sent_at).total_seconds() * 1000 - self.duration_ms, 0.0)
