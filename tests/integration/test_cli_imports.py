"""The commands for imports: one file now, and those of the imports file."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pattern_storage.tasks.client import Job
from pattern_storage.tasks.imports.run.execution import RunExecutor
from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli, run_script
from tests.fix_imports import patterns, runs_of, write_imports_file, write_lines
from tests.fix_process import free_port
from tests.fix_storage import count_patterns, make_pattern


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An imports file, and what it names."""
    return write_imports_file(tmp_path)


# --- import SOURCE ---


def test_import_one_file(cli: Cli, database_url: str, tmp_path: Path) -> None:
    rows = patterns(3)
    path = str(write_lines(tmp_path / "a.jsonl", rows))
    dry = cli("import", path, "--dry-run", DATABASE_URL=database_url)
    assert dry.code == 0, dry.err
    assert dry.out.startswith("dry run, nothing is stored")
    assert (count_patterns(database_url), runs_of(database_url)) == (0, [])

    done = cli("import", path, "--json", DATABASE_URL=database_url)
    assert done.code == 0, done.err
    assert (done.json["data"]["state"], done.json["data"]["rows_inserted"]) == ("done", 3)
    [run] = runs_of(database_url)
    assert (run["name"], run["due"], run["state"]) == (str(path), None, "done")

    # It does what it is told, also with a file that has not changed.
    again = cli("import", path, DATABASE_URL=database_url)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("import failed (unique_violation)\n3 bad rows: line 1: Pattern already exists: ")
    skipped = cli("import", path, "--on-conflict", "skip", DATABASE_URL=database_url)
    assert skipped.code == 0
    assert "rows skipped" in skipped.out


def test_ctrl_c_after_the_commit_is_an_import_that_is_done(
    cli: Cli, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = RunExecutor.execute

    async def interrupted(executor: RunExecutor) -> None:
        await execute(executor)
        raise asyncio.CancelledError

    monkeypatch.setattr(RunExecutor, "execute", interrupted)
    done = cli("import", str(write_lines(tmp_path / "a.jsonl", patterns(3))), "--json", DATABASE_URL=database_url)
    assert (done.code, done.json["data"]["rows_inserted"]) == (0, 3)


def test_import_with_options(cli: Cli, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("Name,pattern_type,language,template_code,tags\na,t,l,c,x|y\nb,t,l,c,\nc,t\n")
    columns = [f"{name}={name}" for name in ("pattern_type", "language", "template_code", "tags")]
    options = ["--format", "csv", "--separator", "|", "--max-bad-rows", "1", "--column", "pattern_name=Name"]
    for column in columns:
        options += ["--column", column]
    said = cli(
        "import", str(path), *options, "--json", DATABASE_URL=database_url, PATTERN_STORAGE_DATA_DIR=str(tmp_path)
    )
    assert said.code == 0, said.err
    assert (said.json["data"]["rows_inserted"], said.json["data"]["rows_rejected"]) == (2, 1)
    assert said.json["data"]["reject_file"].startswith(str(tmp_path / "imports"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.xml"], "format is required: "),
        (["a.csv", "--format", "xml"], "format should be 'jsonl', 'csv', 'parquet' or 'python', got 'xml'"),
        (["a.csv", "--on-conflict", "ignore"], "on_conflict should be 'error', 'skip' or 'update', got 'ignore'"),
        (["a.csv", "--column", "x"], "--column is 'x'; it should be COLUMN=NAME"),
        (["a.csv", "--column", "nam=x"], "columns: unknown column 'nam'"),
        (["http://me:pw@host/a.csv"], "source holds a password"),
    ],
)
def test_import_of_what_cannot_be(cli: Cli, database_url: str, arguments: list[str], says: str) -> None:
    said = cli("import", *arguments, DATABASE_URL=database_url)
    assert (said.code, said.out) == (2, "")
    assert says in said.error
    assert runs_of(database_url) == []


def test_import_without_a_server(cli: Cli, tmp_path: Path) -> None:
    path = str(write_lines(tmp_path / "a.jsonl", []))
    missing = cli("import", path, REDIS_URL="redis://127.0.0.1:1")
    assert missing.code == 2
    assert "DATABASE_URL is not set" in missing.error
    url = "postgresql://127.0.0.1:1/x"
    said = cli("import", path, DATABASE_URL=url, PATTERN_STORAGE_POOL_TIMEOUT="0.2")
    assert said.code == 3, said.error
    # A file that is not there needs no server to be refused.
    absent = str(tmp_path / "absent.jsonl")
    said = cli("import", absent, DATABASE_URL=url)
    assert (said.code, "does not exist" in said.error, "PostgreSQL" in said.error) == (2, True, False)
    said = cli("import", absent, "--json", DATABASE_URL=url)
    assert (said.code, said.json["error"]) == (2, f"{absent} does not exist")
    assert said.json["metadata"]["error_type"] == "source_missing"


def test_a_file_that_cannot_be_used_is_bad_input_of_both_commands(
    cli: Cli, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """As --help says: 2. A server that does not answer is 3, also that of a source."""
    servers: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    not_json, bad_row, column = (tmp_path / name for name in ("not.jsonl", "bad.jsonl", "column.jsonl"))
    not_json.write_text("{\n")
    write_lines(bad_row, [patterns(1)[0] | {"confidence_score": 2}])
    write_lines(column, [patterns(1)[0] | {"colour": "red"}])
    for path in (tmp_path / "absent.jsonl", tmp_path, not_json, bad_row, column):
        for command in (("import", str(path)), ("insert", "--file", str(path))):
            said = cli(*command, **servers)
            assert (said.code, said.out) == (2, ""), (command, said)
    said = cli("import", str(tmp_path / "absent.jsonl"), "--json", **servers)
    assert (said.code, said.json["metadata"]["error_type"]) == (2, "source_missing")
    assert said.json["error"] == f"{tmp_path / 'absent.jsonl'} does not exist"
    away = cli("import", f"http://127.0.0.1:{free_port()}/a.jsonl", **servers)
    assert away.code == 3, away


def test_import_as_a_process_shows_no_bar_where_nobody_looks(database_url: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", patterns(5))
    said = run_script("import", "a.jsonl", "--json", cwd=tmp_path, DATABASE_URL=database_url)
    assert said.code == 0, said.err
    assert said.json["data"]["rows_inserted"] == 5
    assert "\x1b" not in said.err


# --- imports ---


def test_list_and_next(cli: Cli, database_url: str, file: Path) -> None:
    variables: dict[str, Any] = {"DATABASE_URL": database_url, "PATTERN_STORAGE_IMPORTS_FILE": str(file)}
    listed = cli("imports", "list", **variables)
    assert listed.code == 0, listed.err
    assert listed.out.startswith("3 imports")
    for text in ("nightly", "30 2 * * * Europe/Berlin", "every 15m", "disabled"):
        assert text in listed.out
    nightly, quarterly, off = cli("imports", "list", "--json", **variables).json
    assert (nightly["name"], nightly["last"], off["next"]) == ("nightly", None, None)
    assert quarterly["source"] == "https://host/a.csv"
    upcoming = cli("imports", "next", "--count", "100", "--json", **variables).json
    assert len(upcoming) == 100
    assert [one["due"] for one in upcoming] == sorted(one["due"] for one in upcoming)
    assert {one["name"] for one in upcoming} == {"nightly", "quarterly"}
    assert "quarterly" in cli("imports", "next", **variables).out


def test_run_and_history(cli: Cli, worker: StorageWorker, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables: dict[str, Any] = {
        "DATABASE_URL": worker.database_url,
        "REDIS_URL": worker.redis_url,
        "PATTERN_STORAGE_IMPORTS_FILE": str(file),
    }
    done = cli("imports", "run", "nightly", "--json", **variables)
    assert done.code == 0, done.err
    assert done.json["data"]["rows_inserted"] == 3
    unchanged = cli("imports", "run", "nightly", "--json", **variables)
    assert unchanged.json["data"]["state"] == "unchanged"
    forced = cli("imports", "run", "nightly", "--force", **variables)
    assert forced.code == 0
    assert forced.out.startswith("import done")
    assert "rows read" in forced.out
    assert "source_version" not in forced.out
    assert "reject" not in forced.out.replace("rows rejected", "")
    write_lines(file.parent / "drop" / "b.jsonl", [make_pattern(usage_count=-1)])
    failed = cli("imports", "run", "nightly", **variables)
    assert failed.code == 1
    assert failed.err.startswith("import failed (bad_rows)\n1 bad row: line 1: usage_count should be")

    history = cli("imports", "history", "nightly", "--json", **variables).json
    # The shared worker may have done others of this name before.
    assert [run["state"] for run in history[:4]] == ["failed", "done", "unchanged", "done"]
    shown = cli("imports", "history", **variables)
    assert "by hand" in shown.out
    assert "3 new" in shown.out
    assert "usage_count should be" in shown.err
    assert "3 new" not in cli("imports", "list", **variables).out
    assert "failed" in cli("imports", "list", **variables).out
    assert cli("imports", "history", "nothing", "--json", **variables).json == []

    started = cli("imports", "run", "nightly", "--wait", "0", **variables)
    assert started.code == 0
    assert cli("result", started.out.strip(), "--wait", "60", **variables).code == 1

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Job, "result", interrupt)
        stopped = cli("imports", "run", "nightly", **variables)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.startswith("The run ")
    assert stopped.err.endswith("'pattern-storage imports stop nightly' stops it.\n")
    assert cli("result", stopped.err.split()[2], "--wait", "60", **variables).code == 1, "it goes on"


def test_run_of_what_is_not_there(cli: Cli, database_url: str, file: Path) -> None:
    without = cli("imports", "list", DATABASE_URL=database_url)
    assert (without.code, without.out) == (2, "")
    assert "PATTERN_STORAGE_IMPORTS_FILE is not set" in without.error
    variables: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"}
    unknown = cli("imports", "run", "weekly", PATTERN_STORAGE_IMPORTS_FILE=str(file), **variables)
    assert unknown.code == 2
    assert "there is no import 'weekly'; known are nightly, quarterly, off" in unknown.error
    file.write_text("[[import]]\nname = 'x'\n")
    broken = cli("imports", "list", PATTERN_STORAGE_IMPORTS_FILE=str(file), **variables)
    assert broken.code == 2
    assert f"Error: {file}, import 'x': source is required" in broken.error


def test_run_without_a_queue(cli: Cli, database_url: str, file: Path) -> None:
    variables: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"}
    said = cli(
        "imports",
        "run",
        "nightly",
        PATTERN_STORAGE_IMPORTS_FILE=str(file),
        PATTERN_STORAGE_CONNECT_TIMEOUT="0.2",
        **variables,
    )
    assert said.code == 3
    assert "the queue does not answer" in said.error
    [run] = runs_of(database_url)
    assert run["state"] == "queued"
    assert f"run {run['run_id']} is noted all the same, and beat puts it on the queue when that is back" in said.error
