"""Exit codes that scripts can use, and the mapping of exceptions to them."""

import sys
from enum import IntEnum

import typer
from rich.text import Text

from pattern_storage.config.settings import SettingsInvalid
from pattern_storage.embedded import DirectoryUnusable, EmbeddedError, ProgramMissing, StackAlreadyRunning
from pattern_storage.extract import HarvestError
from pattern_storage.extras import ExtraMissing
from pattern_storage.storage.errors import (
    BatchInsertFailed,
    ContractInvalid,
    FilterInvalid,
    InternalError,
    SchemaMismatch,
    StatementTimeout,
    StorageError,
    TransientError,
    UnsupportedOperation,
)
from pattern_storage.storage.setup_errors import ConninfoInvalid, DatabaseUnsuitable, RevisionUnknown, RoleUnknown
from pattern_storage.tasks.cli.output import FULL, err, print_json
from pattern_storage.tasks.errors import ImportFailed, JobTimeout, QueueUnreadable, ServiceUnavailable
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid
from pattern_storage.vocabulary import JobState


class Exit(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNREACHABLE = 3


def _code(error: Exception) -> Exit | None:
    """Return the exit code of a known error."""
    if hasattr(error, "format_message"):  # Click's, which Typer may have taken in under a name of its own
        return Exit.BAD_INPUT
    if isinstance(error, typer.Abort):
        return Exit.FAILED
    return next((code for kinds, code in MEANINGS if isinstance(error, kinds)), None)


class InputInvalid(ValueError):
    """What the user typed, or a file they named, cannot be used; the text is one clear sentence."""


#: In order: the first kind that fits decides. Anything else is a bug of ours and keeps its traceback.
MEANINGS: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    # BatchInsertFailed as an exception is a row that was refused before anything was sent.
    ((InputInvalid, FilterInvalid, QueueUnreadable, HarvestError, ImportsFileInvalid, SettingsInvalid, ContractInvalid,
      BatchInsertFailed, UnsupportedOperation, RevisionUnknown, RoleUnknown, ConninfoInvalid, DatabaseUnsuitable,
      DirectoryUnusable, StackAlreadyRunning, ProgramMissing, ExtraMissing), Exit.BAD_INPUT),
    ((StatementTimeout, SchemaMismatch, InternalError, ImportFailed), Exit.FAILED),
    ((ServiceUnavailable, JobTimeout, TransientError, EmbeddedError), Exit.UNREACHABLE),
    ((StorageError,), Exit.FAILED),
)  # fmt: skip


def wants_json() -> bool:
    """Whether this command is to print JSON, its errors included."""
    return "--json" in sys.argv[1:]


def explain_and_exit(error: Exception) -> int:
    """Print a known error as one sentence and return its exit code; raise any other again.

    With --json it is a document on standard output: a script that reads that finds the reason where it looks.
    """
    if wants_json() and (code := _code(error)) is not None:
        sentence = error.format_message() if hasattr(error, "format_message") else str(error)
        found = getattr(error, "error_type", None)
        print_json({"error": sentence or "stopped", "error_type": found and str(found), "exit_code": int(code)})
        return code
    if isinstance(error, OSError) and error.errno in FULL:
        err.print(Text.assemble(("Error: ", "bold red"), f"cannot write the output: {error.strerror}"), soft_wrap=True)
        return Exit.FAILED
    for kinds, code in MEANINGS:
        if isinstance(error, kinds):
            err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
            if isinstance(error, JobTimeout):
                err.print(
                    "No job is known under this id, or its result has expired."
                    if error.status == JobState.UNKNOWN
                    else "The job goes on. Is a worker running? 'pattern-storage doctor' tells."
                )
            return code
    raise error
