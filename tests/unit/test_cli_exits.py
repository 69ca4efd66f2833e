"""Every kind of exception has its exit code, and anything unknown keeps its traceback."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import typer

from pattern_storage.config.settings import SettingsInvalid
from pattern_storage.embedded import EmbeddedError, StackAlreadyRunning
from pattern_storage.extract import HarvestError
from pattern_storage.storage import errors
from pattern_storage.storage.errors import StorageError
from pattern_storage.tasks.cli import cli as command_line
from pattern_storage.tasks.cli.exits import Exit, InputInvalid, explain_and_exit
from pattern_storage.tasks.client import (
    BrokerUnavailable,
    JobError,
    JobTimeout,
    ResultBackendUnavailable,
    ServiceUnavailable,
)
from pattern_storage.tasks.errors import StorageOperationFailed

ID = UUID("12345678-1234-4678-9234-567812345678")


def every_kind(of: type[Exception]) -> Iterator[type[Exception]]:
    yield of
    for kind in of.__subclasses__():
        yield from every_kind(kind)


def test_the_codes_are_public() -> None:
    assert {code.name: code.value for code in Exit} == {"DONE": 0, "FAILED": 1, "BAD_INPUT": 2, "UNREACHABLE": 3}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputInvalid("so"), 2),
        (HarvestError("so"), 2),
        (SettingsInvalid("so"), 2),
        (errors.ContractInvalid("so"), 2),
        (errors.BatchInsertFailed(3, errors.ContractInvalid("so")), 2),
        (errors.UnsupportedOperation("so"), 2),
        (StackAlreadyRunning(Path("/so"), 1), 2),
        (EmbeddedError("so"), 3),
        (ServiceUnavailable("so"), 3),
        (BrokerUnavailable("so"), 3),
        (ResultBackendUnavailable("so"), 3),
        (JobTimeout(ID, 1.5, "QUEUED"), 3),
        (errors.ConnectionLost("so"), 3),
        (errors.ServerUnavailable("so"), 3),
        (errors.PoolExhausted("so"), 3),
        (errors.TransactionConflict("so"), 3),
        (errors.PatternNotFound(ID), 1),
        (errors.UniqueViolation("so", "b", "c"), 1),
        (errors.ForeignKeyViolation("so"), 1),
        (errors.StatementTimeout("so"), 1),
        (errors.SchemaMismatch("so"), 1),
        (errors.InternalError("so"), 1),
        (StorageError("so"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_known_error_is_one_sentence_and_a_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain_and_exit(error) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == f"Error: {error}"


def test_no_error_of_storage_or_client_is_forgotten() -> None:
    kinds = {*every_kind(StorageError), *every_kind(JobError), *every_kind(EmbeddedError)}
    # Only in a worker, and the root of the tree, which nobody raises.
    for kind in kinds - {*every_kind(StorageOperationFailed), JobError}:
        error = kind.__new__(kind)
        error.args = ("so",)
        error.__dict__.update(status="QUEUED")
        assert explain_and_exit(error) in (1, 2, 3), kind


@pytest.mark.parametrize("error", [ValueError("so"), KeyError("so"), OSError("so"), RuntimeError("so")])
def test_an_unknown_error_is_a_bug_and_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="so"):
        explain_and_exit(error)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("UNKNOWN", "no job is known under this id, or its result has expired"),
        ("QUEUED", "the job goes on; is a worker running? 'pattern-storage doctor' tells"),
    ],
)
def test_a_timeout_says_what_to_do(status: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain_and_exit(JobTimeout(ID, 2, status))
    said = f"Error: job {ID} has no result after 2 s; its status is {status} ({advice})\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("error", "code", "error_type"),
    [
        # A user's mistake is one, whichever part of the program finds it.
        (InputInvalid("so"), 2, "validation_error"),
        (HarvestError("so"), 2, "validation_error"),
        (SettingsInvalid("so"), 2, "validation_error"),
        (errors.ContractInvalid("so"), 2, "validation_error"),
        (typer.BadParameter("so"), 2, "validation_error"),
        (errors.UnsupportedOperation("so"), 2, "unsupported_operation"),
        (JobTimeout(ID, 1.5, "QUEUED"), 3, "no_result_yet"),
        (errors.ServerUnavailable("so"), 3, "server_unavailable"),
        (BrokerUnavailable("so"), 3, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_error_type_in_json(
    error: Exception, code: int, error_type: str | None,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["pattern-storage", "query", "--json"])
    assert explain_and_exit(error) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["error_type"], document["exit_code"]) == (error_type, code)


def test_a_full_disk_is_no_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The document would go where nothing can be written."""
    monkeypatch.setattr("sys.argv", ["pattern-storage", "query", "--json"])
    assert explain_and_exit(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert capsys.readouterr() == ("", "Error: cannot write the output: No space left on device\n")


def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """In our words, not in those of the libraries that check it."""
    with pytest.raises(Exception, match="99") as refused:
        command_line(["insert", "--priority", "99"], prog_name="pattern-storage", standalone_mode=False)
    assert explain_and_exit(refused.value) == 2
    assert capsys.readouterr().err == (
        "Error: Invalid value for '--priority': '99' is not one of 'urgent', 'normal', 'low', 'lowest'."
        " (see 'pattern-storage insert --help')\n"
    )


def test_what_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    explain_and_exit(InputInvalid("[bold]x[/bold] [/nope] " + "long " * 50))
    assert capsys.readouterr().err == "Error: [bold]x[/bold] [/nope] " + "long " * 50 + "\n"
