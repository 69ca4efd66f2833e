"""The imports file (imports.toml): reading and checking its `[[import]]` tables."""

import tomllib
from pathlib import Path

from click import ClickException
from pydantic import ValidationError

from pattern_storage.storage.explanation import explain
from pattern_storage.tasks.imports.location import absolute
from pattern_storage.tasks.imports.plan.model import ImportEntry


class ImportsFileInvalid(ClickException, ValueError):
    """The imports file cannot be used; the text names the file, the entry, the field and the rule.

    It is a ClickException, so that `celery beat` prints this text instead of a traceback and exits with 2.
    """

    exit_code = 2


def load_entries(path: Path) -> list[ImportEntry]:
    """Read an imports file; relative sources are relative to its folder. Raises ImportsFileInvalid."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
        try:
            entries.append(entry.model_copy(update={"source": absolute(entry.source, path.parent)}))
        except ValueError as error:
            raise ImportsFileInvalid(f"{where}: {error}") from None
    return entries
