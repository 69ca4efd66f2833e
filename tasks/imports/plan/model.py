"""Import plans and entries: the source, what becomes of its rows, and the schedule."""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pattern_storage.storage.explanation import did_you_mean
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.staging import OnConflict
from pattern_storage.tasks.imports.location import suffixes
from pattern_storage.tasks.imports.plan.schedule import Cron, Every, Schedule
from pattern_storage.tasks.imports.redaction import contains_password, redact

Format = Literal["jsonl", "csv", "parquet", "python"]
Misfire = Literal["skip", "once"]

#: Formats by the suffix of a source's name, compression apart.
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".py": "python",
}  # fmt: skip
COMPRESSIONS = (".gz", ".zst", ".bz2")

#: Files beside the IANA zones that are none of them.
HOST_ZONES = frozenset({"localtime", "posixrules", "Factory"})

#: Rejected rows of one run at most: people look at each.
MAX_BAD_ROWS = 10_000


class ImportPlan(BaseModel):
    """The input of one run; it travels in `import_runs.plan`, never through the queue."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    #: The key of history, locks and schedule.
    name: Annotated[str, Field(min_length=1, max_length=500)]
    #: A path or URL that fsspec knows, with `*` for several files; for `python` a local file or folder.
    source: Annotated[str, Field(min_length=1, max_length=2_000)]
    #: Derived from the source's suffix where it is left out.
    format: Format
    on_conflict: OnConflict = "error"
    #: Pattern column to the source's own name for it. Then columns that are not named here are left out.
    columns: dict[str, str] = {}
    #: Values of columns that the source does not have.
    constants: dict[str, Any] = {}
    #: The separator of tags, and of a context's `key=value` pairs; without it both are JSON.
    separator: Annotated[str, Field(min_length=1, max_length=5)] | None = None
    #: The separator of a CSV line's values.
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    #: Rows that may be wrong; they go to a reject file, and the others are stored.
    max_bad_rows: Annotated[int, Field(ge=0, le=MAX_BAD_ROWS)] = 0
    #: Of a first load: without the secondary indexes, which are built after it. The table is locked for all meanwhile.
    build_indexes_last: bool = False

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for key in given:
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; {did_you_mean(key, cls.model_fields)}")
        if isinstance(source := given.get("source"), str) and ("\0" in source or not _is_utf8(source)):
            raise ValueError("source is not UTF-8 text; name a part of it that is not with '*'")
        if "format" not in given and isinstance(given.get("source"), str):
            return given | {"format": format_of(given["source"])}
        return given

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key in ("columns", "constants"):
            for column in getattr(self, key):
                if column not in WRITABLE:
                    raise ValueError(f"{key}: unknown column {column!r}; {did_you_mean(column, WRITABLE)}")
        if self.columns and self.format not in ("csv", "parquet"):
            raise ValueError(f"columns has no meaning for the format {self.format!r}; only CSV and Parquet map columns")
        if self.delimiter in '"\r\n':
            raise ValueError(f"delimiter is {self.delimiter!r}, which has a meaning of its own in CSV")
        if contains_password(self.source):
            raise ValueError("source holds a password, which history and logs would show; give it to fsspec instead")
        return self

    @property
    def content(self) -> dict[str, Any]:
        """The plan as JSON types, without what only the schedule needs."""
        content = self.model_dump(mode="json", include=set(ImportPlan.model_fields))
        # Not where it says nothing: older workers do not know it, and an import of theirs stays the same.
        if not self.build_indexes_last:
            del content["build_indexes_last"]
        return content


class ImportEntry(ImportPlan):
    """One `[[import]]` of the file: a plan and when to run it. Without `schedule` and `every` only by hand."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    #: Five fields as cron has them, in `timezone`.
    schedule: str | None = None
    #: An interval such as "15m", counted from 1970-01-01 00:00 UTC, so that every beat means the same times.
    every: str | None = None
    #: An IANA name.
    timezone: str = "UTC"
    #: The misfire policy, for due times that passed while no beat ran: nothing, or one run for all of them.
    misfire: Misfire = "once"
    enabled: bool = True

    @model_validator(mode="after")
    def _readable_schedule(self) -> Self:
        if self.schedule is not None and self.every is not None:
            raise ValueError("schedule and every cannot both be given")
        if self.every is not None and "timezone" in self.model_fields_set:
            raise ValueError("timezone has no meaning for every, which counts from 1970-01-01 00:00 UTC")
        try:
            # Names that every host has, but each with a meaning of its own.
            if self.timezone in HOST_ZONES or self.timezone.startswith(("posix/", "right/")):
                raise ValueError
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"timezone is {self.timezone!r}; it should be an IANA name such as Europe/Berlin"
            ) from None
        _ = self.due
        return self

    @property
    def due(self) -> Schedule | None:
        """When to run it; None for an import that only runs by hand."""
        if self.every is not None:
            return Every(self.every)
        return None if self.schedule is None else Cron(self.schedule, self.timezone)

    @property
    def when(self) -> str:
        """The schedule in words."""
        if self.every is not None:
            return f"every {self.every}"
        return "by hand" if self.schedule is None else f"{self.schedule} {self.timezone}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def format_of(source: str) -> Format:
    """Return the format by the source's suffix. Raises ValueError if it has none that is known."""
    found = [suffix for suffix in suffixes(source) if suffix not in COMPRESSIONS]
    if not found or found[-1] not in SUFFIXES:
        raise ValueError(f"format is required: {redact(source)!r} does not end with one of {', '.join(SUFFIXES)}")
    return SUFFIXES[found[-1]]
