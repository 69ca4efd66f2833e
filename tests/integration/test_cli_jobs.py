"""Jobs from the command line, on a running `pattern-storage up` that every command finds by itself."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from tests import fix_cli
from tests.fix_cli import PATTERN, Cli, Said, Up, command_line, run_script
from tests.fix_process import wait_until

cli, up = fix_cli.cli, fix_cli.up
pytestmark = pytest.mark.xdist_group("cli-jobs")

Run = Callable[..., Said]
REFUSED_PORT = "127.0.0.1:1"
NOWHERE = f"redis://{REFUSED_PORT}/1"


@pytest.fixture
def run(cli: Cli, up: Up) -> Run:
    """The command line where the running stack is its default."""

    def on_the_stack(*arguments: str, **options: Any) -> Said:
        return cli(*arguments, **{**up.variables, **options})

    return on_the_stack


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A pattern name of this test's own."""
    return f"{request.node.name} {uuid4().hex[:8]}"


def insert(run: Run, name: str, *more: str) -> dict[str, Any]:
    said = run("insert", f"pattern_name={name}", *PATTERN, *more, "--json")
    assert said.code == 0, said.err
    data: dict[str, Any] = said.json["data"]
    return data


def records(run: Run, *filters: str) -> list[dict[str, Any]]:
    said = run("query", *filters, "--json")
    assert said.code == 0, said.err
    found: list[dict[str, Any]] = said.json["data"]["patterns"]
    return found


def write_lines(file: Path, patterns: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(pattern) + "\n" for pattern in patterns))
    return str(file)


def rows(name: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    base = {"pattern_type": "function", "language": "python", "template_code": "pass"} | changes
    return [{"pattern_name": f"{name} {number:03}", **base} for number in range(count)]


def test_a_pattern_through_its_life_in_tables(run: Run, name: str) -> None:
    said = run("insert", f"pattern_name={name}", *PATTERN, "tags=a,b", "confidence_score=0.25", 'context={"k": 1}')
    assert (said.code, said.err.startswith("correlation id ")) == (0, True)
    assert said.out.startswith("insert done")
    [record] = records(run, "--name", name)
    assert record["id"] in said.out
    assert (record["tags"], record["confidence_score"], record["context"]) == (["a", "b"], 0.25, {"k": 1})

    said = run("query", "--name", name)
    assert said.code == 0
    assert said.out.startswith("1 found")
    assert record["id"] in said.out

    said = run("update", record["id"], "usage_count=7", "description=null")
    assert said.code == 0
    assert said.out.startswith("update done")
    assert "usage_count, description" in said.out
    assert records(run, "--pattern-id", record["id"])[0]["usage_count"] == 7

    said = run("delete", record["id"])
    assert (said.code, said.out.startswith("delete done")) == (0, True)
    assert records(run, "--name", name) == []


def test_a_pattern_through_its_life_in_json(run: Run, name: str) -> None:
    said = run("insert", f"pattern_name={name}", *PATTERN, "--json")
    result = said.json
    assert (said.code, said.err, result["success"]) == (0, "", True)
    assert set(result) == {"success", "data", "error", "metadata"}
    UUID(result["metadata"]["correlation_id"])
    pattern_id = result["data"]["pattern_id"]

    result = run("update", pattern_id, "language=rust", "--json").json
    assert result["data"]["fields_updated"] == ["language"]
    result = run("query", "--pattern-id", pattern_id, "--json").json
    assert (result["data"]["count"], result["data"]["patterns"][0]["language"]) == (1, "rust")
    seen = result["data"]["patterns"][0]["updated_at"]
    result = run("update", pattern_id, "language=go", "--expect", "2020-01-01T00:00:00Z", "--json").json
    assert (result["metadata"]["error_type"], result["metadata"]["present_updated_at"]) == ("version_conflict", seen)
    result = run("delete", pattern_id, "--expect", seen, "--json").json
    assert result["data"] == {"pattern_id": pattern_id, "pattern_name": name, "deleted": True}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_operation_is_exit_code_1(run: Run, name: str, as_json: bool) -> None:
    stored = insert(run, name)
    nobody = str(uuid4())
    failures = [
        (("insert", f"pattern_name={name}", *PATTERN), "unique_violation", f"Pattern already exists: {name}"),
        (("insert", f"pattern_name={name}2", *PATTERN, f"parent_pattern_id={nobody}"),
         "foreign_key_violation", "Invalid reference (foreign key violation)"),
        (("update", nobody, "usage_count=1"), "validation_error", f"Pattern not found: {nobody}"),
        (("delete", nobody), "validation_error", f"Pattern not found: {nobody}"),
    ]  # fmt: skip
    for arguments, error_type, sentence in failures:
        said = run(*arguments, *(["--json"] if as_json else []))
        assert said.code == 1
        if as_json:
            assert (said.json["success"], said.json["metadata"]["error_type"]) == (False, error_type)
            assert said.json["error"].startswith(sentence)
            # `result` says the same, also of a failed job.
            again = run("result", said.json["metadata"]["correlation_id"], "--json")
            assert (again.code, again.json) == (1, said.json)
        else:
            assert said.out == ""
            assert said.err.startswith(f"{arguments[0]} failed ({error_type})\n")
            assert sentence in said.error
    assert records(run, "--name", name)[0]["id"] == stored["pattern_id"]


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
        (["update", str(uuid4())], "Missing argument"),
        (["delete", "42"], "pattern_id"),
        (["result", "42"], "correlation_id"),
        (["result", str(uuid4()), "--wait", "-1"], "--wait"),
        (["query", "--wait", "nan"], "--wait"),
        (["insert", "x=y", "--priority", "99"], "'--priority': '99' is not one of 'urgent', 'normal', 'low', 'lowest'"),
        (["quer"], "No such command 'quer'"),
        (["query", "--nam", "x"], "No such option"),
    ],
)  # fmt: skip
def test_bad_input_is_exit_code_2_and_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    said = run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1


def test_nothing_of_bad_input_is_stored(run: Run, up: Up, name: str) -> None:
    run("insert", *PATTERN, f"pattern_name={name}", "confidence_score=7")
    assert up.count(name) == 0


def test_no_job_under_this_id(run: Run) -> None:
    nobody = str(uuid4())
    said = run("result", nobody)
    assert (said.code, said.out) == (3, "")
    assert "its status is UNKNOWN" in said.error
    assert "No job is known under this id" in said.error
    assert run("status", nobody) == Said(0, "UNKNOWN\n", "")


def test_a_chosen_id_then_result_and_status(run: Run, name: str) -> None:
    job = str(uuid4())
    said = run("insert", f"pattern_name={name}", *PATTERN, "--id", job, "--wait", "0")
    assert said == Said(0, f"{job}\n", "")
    waited = run("result", job, "--wait", "30", "--json")
    assert (waited.code, waited.json["metadata"]["correlation_id"]) == (0, job)
    assert waited.json["data"]["pattern_name"] == name
    said = run("result", job)
    assert said.code == 0
    assert waited.json["data"]["pattern_id"] in said.out
    assert run("status", job).out == "SUCCESS\n"
    assert run("status", job, "--json").json == {"correlation_id": job, "status": "SUCCESS"}

    job = str(uuid4())
    assert run("query", "--wait", "0", "--json").json.keys() == {"correlation_id"}
    assert run("delete", str(uuid4()), "--id", job, "--wait", "0", "--json").json == {"correlation_id": job}
    assert run("result", job, "--wait", "30").code == 1
    assert run("status", job).out == "FAILURE\n"


def test_a_file_of_one_pattern_is_an_insert(run: Run, up: Up, name: str, tmp_path: Path) -> None:
    said = run("insert", "--file", write_lines(tmp_path / "p", rows(name, 1)), "--json")
    assert (said.code, said.json["metadata"]["operation"]) == (0, "insert")
    assert up.count(f"{name} 000") == 1


def test_a_file_that_fits_a_batch_is_one_job(run: Run, name: str, tmp_path: Path) -> None:
    job = str(uuid4())
    file = write_lines(tmp_path / "p", rows(name, 5))
    said = run("insert", "--file", file, "--id", job)
    assert said.code == 0
    assert said.out.startswith("batch_insert done")
    assert "(5 in all)" in said.out
    assert run("status", job).out == "SUCCESS\n"


def test_standard_input_is_a_file_too(run: Run, name: str) -> None:
    said = run("insert", "-f", "-", "--json", stdin=json.dumps(rows(name, 3)).encode())
    assert (said.code, said.json["data"]["count"]) == (0, 3)


def test_of_several_batches_one_fails(run: Run, up: Up, name: str, tmp_path: Path) -> None:
    patterns = rows(name, 8)
    insert(run, patterns[4]["pattern_name"])  # in the second batch of three
    file = write_lines(tmp_path / "p", patterns)
    said = run("insert", "--file", file, "--batch-size", "3", "--json")
    assert said.code == 1
    assert [result["success"] for result in said.json] == [True, False, True]
    assert said.json[1]["metadata"]["failed_index"] == 1
    assert said.error == "1 of 3 batches failed and wrote nothing."
    stored = {record["pattern_name"] for record in records(run, "--contains", name)}
    assert stored == {patterns[number]["pattern_name"] for number in (0, 1, 2, 4, 6, 7)}

    said = run("insert", "--file", file, "--batch-size", "3")
    assert said.code == 1
    assert "3 of 3 batches failed" in said.error
    ids = [word for word in said.out.split() if len(word) == 36 and word.count("-") == 4]
    assert len(ids) == 3
    assert all(run("status", job).out == "FAILURE\n" for job in ids)


def test_several_batches_without_waiting(run: Run, name: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p", rows(name, 4))
    said = run("insert", "--file", file, "--batch-size", "2", "--wait", "0")
    ids = said.out.split()
    assert (said.code, len(ids)) == (0, 2)
    assert all(run("result", job, "--wait", "30").code == 0 for job in ids)
    ids = run("insert", "--file", file, "--batch-size", "2", "--wait", "0", "--json").json["correlation_ids"]
    assert [run("result", job, "--wait", "30").code for job in ids] == [1, 1]


def test_one_id_for_several_batches_is_refused(run: Run, name: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p", rows(name, 4))
    said = run("insert", "--file", file, "--batch-size", "2", "--id", str(uuid4()))
    assert (said.code, said.error) == (
        2, "Error: --id names one job, but 4 patterns make 2; raise --batch-size"
    )  # fmt: skip


@pytest.mark.parametrize("wrong", [{"confidence_score": 7}, {"language": None}, {"colour": "red"}])
def test_a_wrong_row_at_the_end_of_a_file_leaves_nothing_stored(
    run: Run, up: Up, name: str, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    patterns = rows(name, 6)
    patterns[5] |= wrong
    said = run("insert", "--file", write_lines(tmp_path / "p", patterns), "--batch-size", "2")
    assert (said.code, said.out) == (2, "")
    assert next(iter(wrong)) in said.error
    # All queued before this one are done when it is.
    insert(run, f"{name} later")
    assert [record["pattern_name"] for record in records(run, "--contains", name)] == [f"{name} later"]


def test_a_file_that_is_no_json_names_the_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text('{"a": 1}\n{"b": \n')
    said = run("insert", "--file", str(file))
    assert (said.code, said.error) == (2, f"Error: {file} is not JSON at line 2, column 7: Expecting value")


def test_every_filter(run: Run, name: str) -> None:
    parent = insert(run, f"{name} parent")["pattern_id"]
    record_id = insert(
        run, f"{name} child", "category=cat", "created_by=me", "tags=x,y", 'context={"a": {"b": 1}}',
        "confidence_score=0.9", "success_rate=0.8", f"parent_pattern_id={parent}", "is_deprecated=true",
    )["pattern_id"]  # fmt: skip
    filters = [
        ("--pattern-id", record_id), ("--name", f"{name} child"), ("--contains", "CHILD"), ("--type", "function"),
        ("--language", "python"), ("--category", "cat"), ("--created-by", "me"), ("--deprecated",),
        ("--parent", parent), ("--tag-any", "x", "--tag-any", "z"), ("--tag-all", "x", "--tag-all", "y"),
        ("--context", '{"a": {"b": 1}}'), ("--min-confidence", "0.9"), ("--min-success-rate", "0.8"),
        ("--created-after", "2020-01-01T00:00:00Z"), ("--created-before", "2120-01-01T00:00:00Z"),
        ("--updated-after", "2020-01-01T00:00:00Z"), ("--updated-before", "2120-01-01T00:00:00Z"),
        ("--order-by", "confidence_score"), ("--ascending",), ("--limit", "1"),
    ]  # fmt: skip
    everything = [argument for one in filters for argument in one]
    assert [record["id"] for record in records(run, *everything)] == [record_id]
    misses = [("--not-deprecated",), ("--tag-all", "z"), ("--context", '{"a": {"b": 2}}'), ("--min-confidence", "1"),
              ("--created-before", "2020-01-01T00:00:00Z"), ("--updated-after", "2120-01-01T00:00:00Z")]  # fmt: skip
    for miss in misses:
        assert records(run, "--name", f"{name} child", *miss) == [], miss


def test_pages(run: Run, name: str, tmp_path: Path) -> None:
    patterns = rows(name, 5)
    assert run("insert", "--file", write_lines(tmp_path / "p", patterns)).code == 0
    asking = ("query", "--contains", name, "--order-by", "pattern_name", "--ascending", "--limit", "2")
    seen: list[str] = []
    more: tuple[str, ...] = ()
    while True:
        page = run(*asking, *more, "--json").json["data"]
        seen += [record["pattern_name"] for record in page["patterns"]]
        if page["next_cursor"] is None:
            break
        # People are given the same cursor.
        assert f"There are more: add --cursor {page['next_cursor']}\n" in run(*asking, *more).err
        more = ("--cursor", page["next_cursor"])
    assert seen == [pattern["pattern_name"] for pattern in patterns]


def test_a_table_keeps_ids_whole_and_takes_brackets_as_they_are(run: Run, name: str) -> None:
    long = f"[bold]{uuid4().hex[:6]} " + "long " * 40
    record_id = insert(run, long)["pattern_id"]
    said = run("query", "--pattern-id", record_id, COLUMNS="80")
    assert record_id in said.out
    assert "[bold]" in said.out
    # On a pipe a row is a line, however narrow the terminal.
    [row] = [line for line in said.out.splitlines() if record_id in line]
    assert row.count("long") == 40


def test_a_text_with_everything_comes_back_as_it_was(run: Run, name: str, tmp_path: Path) -> None:
    text = "漢字 🙂 é\r\n\ttab \\ \" ' [bold] \u2028 end" * 500
    (tmp_path / "code").write_bytes(text.encode())
    fields = ("pattern_type=function", "language=python", f"template_code=@{tmp_path / 'code'}")
    assert run("insert", f"pattern_name={name}", *fields).code == 0
    assert records(run, "--name", name)[0]["template_code"] == text


# --- as real processes ---


def test_processes_find_the_stack_and_pipe_json(up: Up, name: str) -> None:
    said = run_script("insert", f"pattern_name={name} é", *PATTERN, "--json", **up.variables)
    assert (said.code, said.err, said.json["data"]["pattern_name"]) == (0, "", f"{name} é")
    said = run_script("insert", f"pattern_name={name} é", *PATTERN, **up.variables)
    assert (said.code, said.out) == (1, "")
    said = run_script("query", "--name", f"{name} é", "--json", PYTHONIOENCODING="ascii", **up.variables)
    assert (said.code, said.json["data"]["count"]) == (0, 1)
    said = run_script("insert", "-f", "-", stdin=b"{", **up.variables)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1


def test_a_closed_pipe_is_no_traceback(up: Up, run: Run, name: str, tmp_path: Path) -> None:
    code = "x = '" + "y" * 500_000 + "'"  # more than a pipe holds
    assert run("insert", "-f", write_lines(tmp_path / "p", rows(name, 1, template_code=code))).code == 0
    command, environment = command_line("query", "--name", f"{name} 000", "--json", **up.variables)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""


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
    run: Run, arguments: tuple[str, ...], variables: dict[str, Any], sentence: str
) -> None:
    said = run(*arguments, PATTERN_STORAGE_CONNECT_TIMEOUT="0.2", **variables)
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


def test_no_stack_at_all(cli: Cli, tmp_path: Path) -> None:
    for command, variable in [("query", "REDIS_URL"), ("doctor", "DATABASE_URL"), ("migrate", "DATABASE_URL")]:
        said = cli(command, PATTERN_STORAGE_DATA_DIR=str(tmp_path))
        assert (said.code, said.out) == (2, "")
        assert said.error == (
            f"Error: {variable} is not set and no stack runs in {tmp_path};"
            f" set {variable}, or start servers of your own with 'pattern-storage up'"
        )


def test_help_and_version(cli: Cli) -> None:
    said = cli("--version")
    assert (said.code, said.out.split()[0]) == (0, "pattern-storage")
    shown = cli("--help").out
    for command in ("up", "demo", "migrate", "insert", "update", "delete", "query", "result", "status", "harvest"):
        assert command in shown
        assert cli(command, "-h").code == 0
    assert cli().code == 2


# --- last: these stop the worker for a while ---


def test_batches_without_a_result_do_not_hide_the_others(run: Run, up: Up, name: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p", rows(name, 4))
    worker = up.member("worker")
    stopped = [worker, *worker.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        said = run("insert", "--file", file, "--batch-size", "2", "--wait", "0.01", "--json")
        assert said.code == 3
        assert [result["metadata"]["error_type"] for result in said.json] == ["no_result_yet"] * 2
        assert "2 of 2 batches have no result yet" in said.error
        one = run("insert", f"pattern_name={name}", *PATTERN, "--wait", "0.01")
        assert one.code == 3
        assert "its status is QUEUED" in one.error
        assert "Is a worker running?" in one.error
        job = one.error.split("job ")[1].split()[0]
        assert run("status", job).out == "QUEUED\n"
    finally:
        for process in stopped:
            process.resume()
    for result in said.json:
        assert run("result", result["metadata"]["correlation_id"], "--wait", "30").code == 0
    wait_until(lambda: run("status", job).out == "SUCCESS\n", "the job goes on")


def test_the_servers_of_the_stack_hold_what_was_done(up: Up, run: Run, name: str) -> None:
    said = run("insert", f"pattern_name={name}", *PATTERN, "--json")
    with psycopg.connect(up.state.database_url) as connection:
        found = connection.execute("SELECT id FROM pattern_templates WHERE pattern_name = %s", [name]).fetchall()
    assert [str(row[0]) for row in found] == [said.json["data"]["pattern_id"]]
    with redis.Redis.from_url(up.state.redis_url) as server:
        key = f"celery-task-meta-{said.json['metadata']['correlation_id']}"
        assert server.ttl(key) > 0


def test_a_shell_learns_where_the_servers_are(run: Run, up: Up) -> None:
    said = run("env")
    assert said.code == 0
    urls = {"DATABASE_URL": up.state.database_url, "REDIS_URL": up.state.redis_url}
    assert said.out.splitlines() == [f"export {variable}={url}" for variable, url in urls.items()]
    assert run("env", "--json").json == urls


def test_a_delayed_job_is_listed_and_cancelled_by_filter(run: Run, up: Up, name: str) -> None:
    """A worker has its message, and no list of the queue."""
    assert run("insert", f"pattern_name={name}", *PATTERN, "--delay", "600", "--wait", "0").code == 0
    with redis.Redis.from_url(up.state.redis_url) as server:
        wait_until(lambda: not server.llen("storage"), "the worker has taken it")
    listing = ("jobs", "list", "--state", "QUEUED", "--name", name, "--json")
    [listed] = run(*listing).json["waiting"]
    assert run("jobs", "cancel", "--name", name, "--dry-run", "--json").json["count"] == 1
    assert run("jobs", "cancel", "--name", name, "--yes").code == 0
    assert run(*listing).json["waiting"] == []
    assert run("jobs", "show", listed["correlation_id"], "--json").json["state"] == "REVOKED"


def test_an_empty_filter_widens_nothing(run: Run) -> None:
    """As `"$NAME"` gives it where NAME is not set."""
    for command in (("jobs", "cancel", "--yes"), ("dead-letters", "discard", "--error-type", "x")):
        said = run(*command, "--name", "")
        assert (said.code, said.error) == (2, "Error: --name is empty; leave it out, or give it a value")
    assert run("dead-letters", "discard", "--error-type", " ").code == 2


def test_priority_and_delay(cli: Cli, name: str, redis_url: str, tmp_path: Path) -> None:
    """They travel with every job that the command makes."""
    later = ("--delay", "60", "--priority", "urgent", "--wait", "0")
    with redis.Redis.from_url(redis_url) as server:
        for made in (
            ("insert", f"pattern_name={name}", *PATTERN),
            ("insert", "-f", write_lines(tmp_path / "some.jsonl", rows(name, 3))),
            ("insert", "-f", write_lines(tmp_path / "more.jsonl", rows(name, 3)), "--batch-size", "2"),
            ("update", str(uuid4()), "usage_count=7"),
            ("delete", str(uuid4())),
        ):
            assert cli(*made, *later, REDIS_URL=redis_url).code == 0
        found = [server.lrange(key, 0, -1) for key in (*server.keys("storage*"), *server.keys("batch*"))]
    messages = [json.loads(raw) for each in found for raw in each]
    assert len(messages) == 6
    for message in messages:
        assert message["headers"]["eta"] is not None
        assert message["properties"]["priority"] == 0
    assert cli("insert", f"pattern_name={name}", *PATTERN, "--priority", "high", REDIS_URL=redis_url).code == 2
