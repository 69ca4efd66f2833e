"""What the command line refuses, in one sentence and with an exit code: input, variables, and servers that are away."""

from typing import Any
from uuid import uuid4

import pytest

from tests.fix_cli import PATTERN, Cli, records

REFUSED_PORT = "127.0.0.1:1"


NOWHERE = f"redis://{REFUSED_PORT}/1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["insert"], "give either COLUMN=VALUE arguments or --file"),
        (["insert", "pattern_name=x", "-f", "x"], "give either COLUMN=VALUE arguments or --file"),
        (["insert", "x"], "'x' is not of the form column=value"),
        (["insert", "patern_name=x"], "unknown column 'patern_name'; did you mean 'pattern_name'?"),
        (["insert", "pattern_name=x"], "Insert operation missing required fields"),
        (["insert", *PATTERN, "pattern_name="], "pattern_name should have at least 1 character, got ''"),
        (["insert", *PATTERN, "pattern_name=x", "confidence_score=7"],
         "confidence_score should be less than or equal to 1, got 7"),
        (["insert", *PATTERN, "pattern_name=x", "confidence_score=high"],
         "confidence_score should be a valid number, got 'high'"),
        (["insert", *PATTERN, "pattern_name=x", "confidence_score=NaN"], "confidence_score"),
        (["insert", *PATTERN, "pattern_name=x", "language=c"], "language is given twice"),
        (["insert", *PATTERN, "pattern_name=x", "context=@/nonexistent"], "context: cannot read /nonexistent"),
        (["insert", *PATTERN, "pattern_name=\udcff"], "pattern_name should be UTF-8 text, got the byte 0xff"),
        (["insert", "-f", "\udcff"], "the argument after '-f' should be UTF-8 text, got the byte 0xff"),
        (["query", "--name", "x\udcff=y"], "the argument after '--name' should be UTF-8 text, got the byte 0xff"),
        (["query", "--name=a=\udcff"], "--name should be UTF-8 text, got the byte 0xff"),
        (["jobs", "show", "\udcff"], "the argument after 'show' should be UTF-8 text, got the byte 0xff"),
        (["\udcff"], "the argument after 'pattern-storage' should be UTF-8 text, got the byte 0xff"),
        (["insert", "-f", "/nonexistent"], "cannot read /nonexistent: No such file or directory"),
        (["update", str(uuid4()), "usage_count=-1"], "usage_count should be greater than or equal to 0, got -1"),
        (["query", "--limit", "0"], "limit should be greater than or equal to 1, got 0"),
        (["query", "--context", "[1]"], "context_contains should be a valid dictionary"),
        (["query", "--context", ""], "context_contains should be a valid dictionary"),
        (["query", "--created-after", "2026-01-01T00:00:00"], "created_after"),
        (["query", "--cursor", "nonsense"], "cursor"),
        (["query", "--order-by", "colour"], "order_by"),
        (["query", "--min-confidence", "2"], "min_confidence should be less than or equal to 1, got 2"),
        # Typer's own sentences.
        (["update", str(uuid4())], "Missing argument 'COLUMN=VALUE'. (see"),
        (["delete", "42"], "PATTERN_ID"),
        (["result", "42"], "CORRELATION_ID"),
        (["result", str(uuid4()), "--wait", "-1"], "--wait"),
        (["query", "--wait", "nan"], "--wait"),
        (["audit", "--before", "x"], "'--before': it should be a valid integer (see"),
        (["insert", "x=y", "--priority", "99"], "'--priority': '99' is not one of 'urgent', 'normal', 'low', 'lowest'"),
        (["quer"], "No such command 'quer'"),
        (["query", "--nam", "x"], "No such option"),
    ],
)  # fmt: skip
def test_bad_input_is_exit_code_2_and_one_sentence(served_cli: Cli, arguments: list[str], sentence: str) -> None:
    said = served_cli(*arguments)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1


def test_nothing_of_bad_input_is_stored(served_cli: Cli, name: str) -> None:
    served_cli("insert", *PATTERN, f"pattern_name={name}", "confidence_score=7")
    assert records(served_cli, "--name", name) == []


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (("query",), {"REDIS_URL": f"redis://{REFUSED_PORT}"}, "the queue does not answer"),
        (("query",), {"BROKER_URL": f"redis://{REFUSED_PORT}", "REDIS_URL": NOWHERE}, "the queue does not answer"),
        (("insert", "pattern_name=x", *PATTERN), {"REDIS_URL": f"redis://{REFUSED_PORT}"}, "the queue"),
        (("status", str(uuid4())), {"REDIS_URL": f"redis://{REFUSED_PORT}"}, "the result backend does not answer"),
        (
            ("result", str(uuid4())),
            {"RESULT_BACKEND_URL": f"redis://{REFUSED_PORT}", "REDIS_URL": NOWHERE},
            "the result",
        ),
        (("migrate",), {"DATABASE_URL": f"postgresql://{REFUSED_PORT}/x"}, "PostgreSQL"),
    ],
)
def test_an_unreachable_server_is_exit_code_3(
    served_cli: Cli, arguments: tuple[str, ...], variables: dict[str, Any], sentence: str
) -> None:
    said = served_cli(*arguments, PATTERN_STORAGE_CONNECT_TIMEOUT="0.2", **variables)
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("Error: ")
    assert sentence in said.error
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PATTERN_STORAGE_CONNECT_TIMEOUT": "soon"}, "PATTERN_STORAGE_CONNECT_TIMEOUT is 'soon'; it should be"),
        ({"PATTERN_STORAGE_LOG_LEVEL": "LOUD"}, "PATTERN_STORAGE_LOG_LEVEL is 'LOUD'; it should be"),
        ({"REDIS_URL": "http://localhost"}, "REDIS_URL has the scheme 'http'; it should start with one of"),
        ({"DATABASE_URL": "mysql://localhost"}, "DATABASE_URL has the scheme 'mysql'; it should start with one of"),
    ],
)
def test_a_wrong_variable_is_exit_code_2(cli: Cli, variables: dict[str, Any], sentence: str) -> None:
    for command in (["query"], ["migrate"], ["doctor"], ["up"], ["status", str(uuid4())]):
        said = cli(*command, **variables)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"Error: {sentence}")


def test_help_and_version(cli: Cli) -> None:
    said = cli("--version")
    assert (said.code, said.out.split()[0]) == (0, "pattern-storage")
    shown = cli("--help").out
    for command in ("up", "demo", "migrate", "insert", "update", "delete", "query", "result", "status", "harvest"):
        assert command in shown
        assert cli(command, "-h").code == 0
    assert cli().code == 2


def test_an_empty_filter_widens_nothing(served_cli: Cli) -> None:
    """As `"$NAME"` gives it where NAME is not set."""
    for command in (("jobs", "cancel", "--yes"), ("dead-letters", "discard", "--error-type", "x")):
        said = served_cli(*command, "--name", "")
        assert (said.code, said.error) == (2, "Error: --name is empty; leave it out, or give it a value")
    assert served_cli("dead-letters", "discard", "--error-type", " ").code == 2
