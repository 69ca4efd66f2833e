"""Exit codes that scripts can use, and the mapping of exceptions to them."""

import sys
from enum import IntEnum
from typing import TypeGuard

import typer
from rich.text import Text

from pattern_storage.config.settings import SettingsInvalid
from pattern_storage.embedded import DirectoryUnusable, EmbeddedError, ProgramMissing, StackAlreadyRunning
from pattern_storage.extract import HarvestError
from pattern_storage.extras import ExtraMissing
from pattern_storage.storage.errors import (
    ContractInvalid,
    FilterInvalid,
    InternalError,
    SchemaMismatch,
    StatementTimeout,
    StorageError,
    TransientError,
    UnsupportedOperation,
)
from pattern_storage.storage.setup_errors import (
    ConninfoInvalid,
    DatabaseUnsuitable,
    RevisionUnknown,
    RoleUnknown,
    SchemaNewer,
)
from pattern_storage.tasks.cli.env import left_over
from pattern_storage.tasks.cli.output import FULL, err, print_json
from pattern_storage.tasks.errors import ImportFailed, JobTimeout, QueueUnreadable, ServiceUnavailable
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid
from pattern_storage.vocabulary import ErrorType


class Exit(IntEnum):
    """Exit statuses of the commands."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNREACHABLE = 3


class InputInvalid(ValueError):
    """An argument, or a file that it names, cannot be used; the text is one clear sentence."""


#: The exit code of each kind of error, in order: the first kind that fits decides.
MEANINGS: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    ((InputInvalid, FilterInvalid, QueueUnreadable, HarvestError, ImportsFileInvalid, SettingsInvalid, ContractInvalid,
      UnsupportedOperation, RevisionUnknown, SchemaNewer, RoleUnknown, ConninfoInvalid,
      DatabaseUnsuitable, DirectoryUnusable, StackAlreadyRunning, ProgramMissing, ExtraMissing), Exit.BAD_INPUT),
    ((StatementTimeout, SchemaMismatch, InternalError, ImportFailed), Exit.FAILED),
    ((ServiceUnavailable, JobTimeout, TransientError, EmbeddedError), Exit.UNREACHABLE),
    ((StorageError,), Exit.FAILED),
)  # fmt: skip


def wants_json() -> bool:
    """Return whether the command prints JSON, errors included. Errors of its arguments come before these are read."""
    return "--json" in sys.argv[1:]


def explain_and_exit(error: Exception) -> int:
    """Print a known error as one sentence and return its exit code; raise any other again.

    With --json it is a document on standard output: a script that reads that finds the reason where it looks.
    """
    code, sentence = _explanation(error)
    if code is None:
        # A bug of ours keeps its traceback.
        raise error
    if wants_json() and not _is_full(error):
        print_json({"error": sentence, "error_type": _error_type(error, code), "exit_code": int(code)})
        return code
    # There is none where a group was called without a command: its help is printed.
    if sentence:
        err.print(Text.assemble(("Error: ", "bold red"), sentence, _help(error)))
    return code


def _explanation(error: Exception) -> tuple[Exit | None, str]:
    """Return the exit code of an error and a sentence about it; no code for one that is not known."""
    if isinstance(error, typer.Abort):
        return Exit.FAILED, "nothing was done: the answer was not yes"
    if hasattr(error, "format_message"):  # Click's, which Typer may have taken in under a name of its own
        # Some releases of Typer check values with pydantic, whose words these are.
        sentence = str(error.format_message()).replace(": Value error, ", ": ").replace(": Input should", ": it should")
        return Exit.BAD_INPUT, sentence.replace(", unable to parse string as an integer", "")
    if _is_full(error):
        return Exit.FAILED, f"cannot write the output: {error.strerror}"
    code = next((code for kinds, code in MEANINGS if isinstance(error, kinds)), None)
    hint = left_over() if code == Exit.UNREACHABLE else ""
    return code, f"{error}. {hint}" if hint else str(error)


def _is_full(error: Exception) -> TypeGuard[OSError]:
    """Return whether standard output takes no more."""
    return isinstance(error, OSError) and error.errno in FULL


def _help(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f" (see '{context.command_path} --help')"


def _error_type(error: Exception, code: Exit) -> str | None:
    """Return what programs know an error by: its own type, or that of bad input."""
    if isinstance(error, JobTimeout):
        return ErrorType.NO_RESULT_YET
    return getattr(error, "error_type", ErrorType.VALIDATION_ERROR if code == Exit.BAD_INPUT else None)
