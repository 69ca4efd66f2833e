"""What an import is: where its rows come from, what becomes of them, and when. Read from imports.toml."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from click import ClickException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pattern_storage.storage.explanation import did_you_mean, explain
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.staging import OnConflict
from pattern_storage.tasks.imports.location import holds_password
from pattern_storage.tasks.imports.plan.schedule import Cron, Every, Schedule

Format = Literal["jsonl", "csv", "parquet", "python"]
Misfire = Literal["skip", "once"]

#: What a source's name ends with, compression apart.
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".py": "python",
}  # fmt: skip
COMPRESSIONS = (".gz", ".zst", ".bz2")

#: Rejected rows of one run at most: they are kept to be looked at, by people.
MAX_BAD_ROWS = 10_000


class ImportsFileInvalid(ClickException, ValueError):
    """The imports file cannot be used; the text names the file, the entry, the field and the rule.

    A ClickException, so that `celery beat` prints this text and ends with code 2 instead of a traceback.
    """

    exit_code = 2


class ImportPlan(BaseModel):
    """What one run has to know; it travels in `import_runs.plan`, never through the queue."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    #: What history, locks and the schedule know it by.
    name: Annotated[str, Field(min_length=1, max_length=500)]
    #: A path or URL that fsspec knows, with `*` for several files; for `python` a local file or folder.
    source: Annotated[str, Field(min_length=1, max_length=2_000)]
    #: Told by the source's suffix where it is left out.
    format: Format
    on_conflict: OnConflict = "error"
    #: Pattern column to the source's own name for it. Then columns that are not named here are left out.
    columns: dict[str, str] = {}
    #: Values of columns that the source does not have.
    constants: dict[str, Any] = {}
    #: What stands between tags, and between `key=value` pairs of a context; without it both are JSON.
    separator: Annotated[str, Field(min_length=1, max_length=5)] | None = None
    #: What stands between the values of a CSV line.
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    #: Rows that may be wrong; they go to a reject file, and the others are stored.
    max_bad_rows: Annotated[int, Field(ge=0, le=MAX_BAD_ROWS)] = 0

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for key in given:
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; {did_you_mean(key, cls.model_fields)}")
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
        if holds_password(self.source):
            raise ValueError("source holds a password, which history and logs would show; give it to fsspec instead")
        return self

    @property
    def content(self) -> dict[str, Any]:
        """The plan as JSON types, without what only the schedule needs."""
        return self.model_dump(mode="json", include=set(ImportPlan.model_fields))


class ImportEntry(ImportPlan):
    """One `[[import]]` of the file: a plan and when to run it. Without `schedule` and `every` only by hand."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    #: Five fields as cron has them, in `timezone`.
    schedule: str | None = None
    #: An interval such as "15m", counted from 1970-01-01 00:00 UTC, so that every beat means the same times.
    every: str | None = None
    #: An IANA name.
    timezone: str = "UTC"
    #: What becomes of due times that passed while no beat ran: nothing, or one run for all of them.
    misfire: Misfire = "once"
    enabled: bool = True

    @model_validator(mode="after")
    def _readable_schedule(self) -> Self:
        if self.schedule is not None and self.every is not None:
            raise ValueError("schedule and every cannot both be given")
        if self.every is not None and "timezone" in self.model_fields_set:
            raise ValueError("timezone has no meaning for every, which counts from 1970-01-01 00:00 UTC")
        try:
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


def format_of(source: str) -> Format:
    """Return the format that the source's name tells. Raises ValueError if it tells none."""
    path = urlsplit(source).path if "://" in source else source
    for suffix in COMPRESSIONS:
        path = path.removesuffix(suffix)
    found = SUFFIXES.get(Path(path).suffix)
    if found is None:
        raise ValueError(f"format is required: {path!r} does not end with one of {', '.join(SUFFIXES)}")
    return found


def load_entries(path: Path) -> list[ImportEntry]:
    """Read an imports file. Relative sources count from its folder. Raises ImportsFileInvalid."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportsFileInvalid(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImportsFileInvalid(f"{path} is not TOML: {error}") from None
    if unknown := next((key for key in document if key != "import"), None):
        raise ImportsFileInvalid(f"{path}: unknown key {unknown!r}; it should hold [[import]] tables and nothing else")
    tables = document.get("import", [])
    if not isinstance(tables, list):
        raise ImportsFileInvalid(f"{path}: [import] is one table; write [[import]], once for each import")
    entries: list[ImportEntry] = []
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, dict):
            raise ImportsFileInvalid(f"{path}, import number {number}: should be a table, got {type(table).__name__}")
        where = f"{path}, import {table['name']!r}" if "name" in table else f"{path}, import number {number}"
        try:
            entry = ImportEntry.model_validate(table)
        except ValidationError as error:
            raise ImportsFileInvalid(f"{where}: {explain(error)}") from None
        if any(entry.name == other.name for other in entries):
            raise ImportsFileInvalid(f"{where}: name stands twice; every import needs a name of its own")
        entries.append(entry.model_copy(update={"source": absolute(entry.source, path.parent)}))
    return entries


def absolute(source: str, folder: Path) -> str:
    """Return the source with a local path counted from the folder; a URL is left as it is."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", source):
        return source
    return str((folder / Path(source).expanduser()).absolute())
