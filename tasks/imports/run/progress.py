"""Progress of a run: the result state PROGRESS, the event `task-progress`, and the progress bar."""

import time
from dataclasses import dataclass, field
from typing import Any

#: Seconds between two reports.
INTERVAL = 1.0


@dataclass
class Progress:
    """Rows and bytes read so far. Totals are None where they are unknown before the end."""

    name: str
    phase: str = "reading"
    rows: int = 0
    rows_total: int | None = None
    bytes: int = 0
    bytes_total: int | None = None
    began: float = field(default_factory=time.monotonic)
    #: Seconds that reading took; None while it goes on.
    took: float | None = None

    def end_reading(self, phase: str) -> None:
        """Set the phase after reading: all rows are read."""
        self.phase = phase
        if self.took is None:
            self.took = time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Rows read in a second."""
        seconds = time.monotonic() - self.began if self.took is None else self.took
        return self.rows / seconds if seconds > 0 else 0.0

    @property
    def done(self) -> float | None:
        """The fraction that is read, 0 to 1."""
        if self.rows_total is not None:
            return self.rows / self.rows_total if self.rows_total else 1.0
        return min(self.bytes / self.bytes_total, 1.0) if self.bytes_total else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until all rows are read."""
        done, seconds = self.done, time.monotonic() - self.began
        return seconds * (1 - done) / done if done and self.phase == "reading" else None

    def to_dict(self) -> dict[str, Any]:
        """Return the payload of the state PROGRESS; in the event `task-progress`, `name` is called `import_name`."""
        done, left = self.done, self.seconds_left
        return {
            "name": self.name,
            "phase": self.phase,
            "current": self.rows,
            "total": self.rows_total,
            "rate": round(self.rate, 1),
            "percent": None if done is None else round(100 * done, 1),
            "seconds_left": None if left is None else round(left, 1),
            "bytes": self.bytes,
            "bytes_total": self.bytes_total,
        }
