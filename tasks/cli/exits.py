"""Exit codes that scripts can use, and the mapping of exceptions to them."""

from enum import IntEnum

from rich.text import Text

from pattern_storage.config.settings import SettingsInvalid
from pattern_storage.embedded import DirectoryUnusable, EmbeddedError, ProgramMissing, StackAlreadyRunning
from pattern_storage.extract import HarvestError
from pattern_storage.extras import ExtraMissing
from pattern_storage.storage.errors import (
    BatchInsertFailed,
    ConninfoInvalid,
    ContractInvalid,
    DatabaseUnsuitable,
    InternalError,
    RevisionUnknown,
    RoleUnknown,
    SchemaMismatch,
    StatementTimeout,
    StorageError,
    TransientError,
    UnsupportedOperation,
)
from pattern_storage.tasks.cli.output import FULL, err
from pattern_storage.tasks.errors import ImportFailed, JobTimeout, ServiceUnavailable
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid
from pattern_storage.vocabulary import JobState


class Exit(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNREACHABLE = 3


class InputInvalid(ValueError):
    """What the user typed, or a file they named, cannot be used; the text is one clear sentence."""


#: In order: the first kind that fits decides. Anything else is a bug of ours and keeps its traceback.
MEANINGS: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    # BatchInsertFailed as an exception is a row that was refused before anything was sent.
    ((InputInvalid, HarvestError, ImportsFileInvalid, SettingsInvalid, ContractInvalid, BatchInsertFailed,
      UnsupportedOperation, RevisionUnknown, RoleUnknown, ConninfoInvalid, DatabaseUnsuitable, DirectoryUnusable,
      StackAlreadyRunning,      ProgramMissing, ExtraMissing), Exit.BAD_INPUT),
    ((StatementTimeout, SchemaMismatch, InternalError, ImportFailed), Exit.FAILED),
    ((ServiceUnavailable, JobTimeout, TransientError, EmbeddedError), Exit.UNREACHABLE),
    ((StorageError,), Exit.FAILED),
)  # fmt: skip


def explain_and_exit(error: Exception) -> int:
    """Print a known error as one sentence and return its exit code; raise any other again."""
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
