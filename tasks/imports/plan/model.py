"""Import plans and entries: the source, the treatment of its rows, and the schedule."""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pattern_storage.storage.explanation import did_you_mean, explain, refuse_unknown, storable
from pattern_storage.storage.pattern import WRITABLE, check_changes
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

#: Names in a host's zone database that are no IANA zones.
HOST_ZONES = frozenset({"localtime", "posixrules", "Factory"})

#: The highest `max_bad_rows`: people look at each rejected row.
MAX_BAD_ROWS = 10_000


class ImportPlan(BaseModel):
    """The input of one run; it is stored in `import_runs.plan` and is never in a message."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    #: The key in history, locks and schedules.
    name: Annotated[str, Field(min_length=1, max_length=500)]
    #: A path, or a URL of fsspec, with `*` for several files; for `python` a local file or folder.
    source: Annotated[str, Field(min_length=1, max_length=2_000)]
    #: By default it follows from the source's suffix.
    format: Format
    on_conflict: OnConflict = "error"
    #: Pattern columns and the source's names for them. If any is named, the source's other columns are left out.
    columns: dict[str, str] = {}
    #: Values of columns that the source does not have.
    constants: dict[str, Any] = {}
    #: The separator of tags, and of a context's `key=value` pairs; by default both are JSON.
    separator: Annotated[str, Field(min_length=1, max_length=5)] | None = None
    #: The separator of the values in a line of CSV.
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    #: Rows that may be wrong; they go to a reject file, and the others are stored.
    max_bad_rows: Annotated[int, Field(ge=0, le=MAX_BAD_ROWS)] = 0
    #: Drop the secondary indexes for a first load and build them after it. The table is locked for all meanwhile.
    build_indexes_last: bool = False

    @model_validator(mode="before")
    @classmethod
    def _check_input(cls, given: Any) -> Any:
        """Raise ValueError for unknown keys and a source that is no text, and derive the format."""
        if not isinstance(given, dict):
            return given
        refuse_unknown(given, cls.model_fields, "key")
        source = given.get("source")
        if not isinstance(source, str):
            return given
        if storable(source) != source:
            raise ValueError("source is not UTF-8 text; name a part of it that is not with '*'")
        return given if "format" in given else given | {"format": format_of(source)}

    @model_validator(mode="after")
    def _check_plan(self) -> Self:
        for key in ("columns", "constants"):
            for column in getattr(self, key):
                if column not in WRITABLE:
                    raise ValueError(f"{key}: unknown column {column!r}; {did_you_mean(column, WRITABLE)}")
        if self.columns and self.format not in ("csv", "parquet"):
            raise ValueError(f"columns has no meaning for the format {self.format!r}; only CSV and Parquet map columns")
        for key, texts in (
            ("columns", self.columns.values()),
            ("separator", [self.separator or ""]),
            ("delimiter", self.delimiter),
        ):
            # One plan that PostgreSQL cannot store would keep beat from planning all others.
            if wrong := next((text for text in texts if storable(text) != text), None):
                raise ValueError(f"{key}: {wrong!r} is not UTF-8 text without a NUL character")
        try:
            check_changes(self.model_dump(mode="json", include={"constants"})["constants"])
        except ValidationError as error:
            raise ValueError(f"constants: {explain(error)}") from None
        if self.delimiter in '"\r\n':
            raise ValueError(f"delimiter is {self.delimiter!r}, which has a meaning of its own in CSV")
        if contains_password(self.source):
            raise ValueError("source holds a password, which history and logs would show; give it to fsspec instead")
        return self

    @property
    def content(self) -> dict[str, Any]:
        """The plan as JSON types, without the fields of the schedule."""
        content = self.model_dump(mode="json", include=set(ImportPlan.model_fields))
        # The default is left out: older workers do not know the field, and plans that they stored stay equal.
        if not self.build_indexes_last:
            del content["build_indexes_last"]
        return content


class ImportEntry(ImportPlan):
    """One `[[import]]` of the file: a plan and its schedule. Without `schedule` and `every` it runs by hand only."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    #: Five fields as cron has them, in `timezone`.
    schedule: str | None = None
    #: An interval such as "15m", counted from 1970-01-01 00:00 UTC, so that the due times are the same for all beats.
    every: str | None = None
    #: An IANA name.
    timezone: str = "UTC"
    #: The policy for due times that passed while no beat ran: no run, or one run for all of them.
    misfire: Misfire = "once"
    enabled: bool = True

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if self.schedule is not None and self.every is not None:
            raise ValueError("schedule and every cannot both be given")
        if self.every is not None and "timezone" in self.model_fields_set:
            raise ValueError("timezone has no meaning for every, which counts from 1970-01-01 00:00 UTC")
        try:
            # These names are on every host, and their meaning differs from host to host.
            if self.timezone in HOST_ZONES or self.timezone.startswith(("posix/", "right/")):
                raise ValueError
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"timezone is {self.timezone!r}; it should be an IANA name such as Europe/Berlin"
            ) from None
        _ = self.due  # raises ValueError for a schedule that cannot be read
        return self

    @property
    def due(self) -> Schedule | None:
        """The schedule; None for an import that runs by hand only."""
        if self.every is not None:
            return Every(self.every)
        return None if self.schedule is None else Cron(self.schedule, self.timezone)

    @property
    def when(self) -> str:
        """The schedule in words."""
        if self.every is not None:
            return f"every {self.every}"
        return "by hand" if self.schedule is None else f"{self.schedule} {self.timezone}"


def format_of(source: str) -> Format:
    """Return the format by the source's suffix. Raises ValueError if the suffix is not known."""
    plain = [suffix for suffix in suffixes(source) if suffix not in COMPRESSIONS]
    if not plain or plain[-1] not in SUFFIXES:
        raise ValueError(f"format is required: {redact(source)!r} does not end with one of {', '.join(SUFFIXES)}")
    return SUFFIXES[plain[-1]]
