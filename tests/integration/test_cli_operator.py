"""Commands of operators: jobs, queues, audit; what they print, and --json also of errors."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.types.json import Json

from pattern_storage.storage import NodePatternStorageEffect, outbox
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.cli import output
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_cli import Cli, Said
from tests.fix_imports import runs_of
from tests.fix_storage import contract, make_pattern


@pytest.fixture
def run(cli: Cli, database_url: str, redis_url: str) -> Callable[..., Said]:
    """Call a command on this test's servers."""

    def call(*arguments: str, **variables: Any) -> Said:
        return cli(*arguments, DATABASE_URL=database_url, REDIS_URL=redis_url, **variables)

    return call


def fail(database_url: str, name: str) -> str:
    """Make a job that failed; return its id."""
    first, twin = (contract("insert", data=make_pattern(pattern_name=name)) for _ in range(2))

    async def execute() -> None:
        async with create_pool(database_url) as pool:
            for one in (first, twin):
                await NodePatternStorageEffect(pool).execute_once(one)

    asyncio.run(execute())
    return str(twin.correlation_id)


def test_jobs_are_found_shown_and_sent_again(run: Any, database_url: str) -> None:
    failed = fail(database_url, "writer")
    found = run("jobs", "list", "--state", "failure", "--json").json
    assert [job["correlation_id"] for job in found["jobs"]] == [failed]
    assert found["jobs"][0]["error"] == "Pattern already exists: writer (function/python)"
    assert found["next_cursor"] is None
    # A pipe gets whole values, a line each.
    lines = run("jobs", "list", "--state", "FAILURE").out.splitlines()
    assert len(lines) == 3
    assert all(text in lines[2] for text in (failed, "insert writer", "FAILURE", "unique_violation", "already exists"))
    page = run("jobs", "list", "--limit", "1", "--json").json
    later = run("jobs", "list", "--cursor", page["next_cursor"], "--json").json
    assert len({job["correlation_id"] for job in (*page["jobs"], *later["jobs"])}) == 2

    refused = run("jobs", "retry")
    assert (refused.code, refused.error) == (
        2, "Error: say which jobs: correlation ids, or options such as --state, --operation and --since",
    )  # fmt: skip
    assert run("jobs", "list").out.startswith("2 jobs; those that wait in queues: --state QUEUED\n")
    assert "1 job would be sent again. Add --yes" in run("jobs", "retry", "--state", "FAILURE").error
    assert run("jobs", "retry", "--state", "FAILURE", "--dry-run", "--json").json["count"] == 1
    done = run("jobs", "retry", failed)
    assert done.code == 0
    old, new = done.out.split()
    assert old == failed
    assert "sent again before" in run("jobs", "retry", failed).error
    # A filter lets through only what was not sent again before, unless that is asked for.
    by_filter = ("jobs", "retry", "--state", "FAILURE", "--json")
    assert run(*by_filter, "--dry-run").json["count"] == run(*by_filter, "--yes").json["count"] == 0
    assert run(*by_filter, "--again", "--yes").json["count"] == 1
    shown = run("jobs", "show", failed, "--json").json
    assert (shown["retries"][0], len(shown["retries"]), shown["timeline"][-1]["what"]) == (new, 2, "FAILURE")
    text = run("jobs", "show", new)
    assert (text.code, failed in text.out, "QUEUED" in text.out) == (0, True, True)
    unknown = run("jobs", "show", str(uuid4()))
    assert (unknown.code, "No job is known" in unknown.error) == (1, True)


def test_what_waits_is_cancelled_by_filter(
    run: Any, client: PatternStorageClient, database_url: str, redis_url: str
) -> None:
    for name in ("a", "b", "a"):
        client.insert(make_pattern(pattern_name=name))
    with psycopg.connect(database_url) as connection:
        outbox.add_sync(connection, contract("insert", data=make_pattern(pattern_name="a")))
    listed = run("jobs", "list", "--state", "QUEUED", "--json").json
    assert [message["pattern_name"] for message in listed["waiting"]] == ["a", "b", "a"]
    assert [job["pattern_name"] for job in listed["jobs"]] == ["a"]
    whole = run("jobs", "list", "--state", "QUEUED")
    assert (len(whole.out.splitlines()), whole.err) == (6, "")
    assert "More may wait" in run("jobs", "list", "--state", "QUEUED", "--limit", "2").error
    assert "would be cancelled: 3" in run("jobs", "cancel", "--name", "a", "--dry-run").error
    assert run("jobs", "cancel", "--name", "a", "--yes", "--json").json["count"] == 3
    wrong = run("jobs", "cancel", "--state", "SUCCESS", "--json")
    assert wrong.code == 2
    assert wrong.json["error"] == "--state is SUCCESS; QUEUED, STARTED, RETRY, DEAD can be cancelled"

    assert [row["waiting"] for row in run("queues", "list", "--json").json] == [3, 0, 0]
    assert "Add --yes" in run("queues", "purge", "storage").error
    assert "purged: 3" in run("queues", "purge", "storage", "--yes").error
    assert run("queues", "pause", "storage", "--json").json == {"action": "paused", "queue": "storage", "changed": True}
    assert "storage was paused before" in run("queues", "pause", "storage").error
    listed_queues = run("queues", "list").out.splitlines()
    assert "by " in listed_queues[1]
    with redis.Redis.from_url(redis_url) as server:
        server.lpush("storage", "{}")  # of another program: it does not say when it was sent
    listed_queues = run("queues", "list").out.splitlines()
    assert listed_queues[1].split()[:4] == ["storage", "1", "0", "unknown"]
    assert "storage is resumed now" in run("queues", "resume", "storage").error
    assert "did you mean 'batch'?" in run("queues", "pause", "btach").error

    audit = run("audit", "--json").json
    assert [(entry["action"], entry["count"]) for entry in audit] == [
        ("resume queue", 1), ("pause queue", 1), ("purge queue", 3), ("cancel", 2), ("cancel", 1),
    ]  # fmt: skip
    assert "pause queue name storage" in run("audit", "--action", "pause queue").out
    assert run("audit", "--limit", "1").err.startswith("There may be more: add --before ")


def test_ids_are_cancelled_or_blocked_or_have_ended(
    run: Any, client: PatternStorageClient, database_url: str, redis_url: str
) -> None:
    """The output says which is which; a blocked id is none of a job that was cancelled."""
    waiting = [client.insert(make_pattern(pattern_name=name)) for name in ("a", "b")]
    marked, hidden = (client.insert(make_pattern()) for _ in range(2))
    with redis.Redis.from_url(redis_url) as server:
        # As on RabbitMQ, which shows no messages: only the client's marker tells of these.
        server.ltrim("storage", 2, -1)
    written = contract("insert", data=make_pattern(pattern_name="c"))
    with psycopg.connect(database_url) as connection:
        outbox.add_sync(connection, written)
    ended, unknown, second = fail(database_url, "d"), str(uuid4()), str(uuid4())
    known = [*(str(job.correlation_id) for job in (*waiting, marked)), str(written.correlation_id)]

    def written_rows() -> list[Any]:
        tables = ("job_ledger", "outbox", "dead_letters", "audit_log")
        with psycopg.connect(database_url) as connection:
            counts = [connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() for name in tables]
        with redis.Redis.from_url(redis_url) as server:
            return [*counts, server.llen("storage"), sorted(server.scan_iter("celery-task-meta-*"))]

    # What would be done is told without doing any of it.
    before = written_rows()
    said = run("jobs", "cancel", *known, unknown, ended, "--dry-run")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        f"{unknown} is not known, and would be blocked from now on: a job that comes under this id would never commit",
        f"{ended} would not be cancelled: it has ended",
        "would be cancelled: 4",
    ]
    assert run("jobs", "cancel", str(marked.correlation_id), unknown, "--dry-run", "--json").json == {
        "action": "cancelled", "count": 1, "dry_run": True, "blocked": [unknown], "ended": [],
    }  # fmt: skip
    assert written_rows() == before

    said = run("jobs", "cancel", *known, unknown, ended)
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        f"{unknown} is not known, and blocked from now on: a job that comes under this id never commits",
        f"{ended} is not cancelled: it has ended",
        "cancelled: 4",
    ]
    assert run("jobs", "cancel", str(hidden.correlation_id), second, unknown, "--json").json == {
        "action": "cancelled", "count": 1, "dry_run": False, "blocked": [second, unknown], "ended": [],
    }  # fmt: skip
    # Also of ids that were cancelled or blocked before.
    again = ("jobs", "cancel", *known, unknown, ended, "--json")
    assert run(*again, "--dry-run").json == run(*again).json | {"dry_run": True}
    assert run("jobs", "cancel", unknown).code == 0
    assert run("jobs", "cancel", ended, "--json").json["ended"] == [ended]
    assert run("jobs", "cancel", "--name", "a", "--yes", "--json").json == {
        "action": "cancelled", "count": 0, "dry_run": False, "blocked": [], "ended": [],
    }  # fmt: skip
    # What is said of a blocked id is true.
    late = contract("insert", data=make_pattern(), correlation_id=unknown)

    async def execute() -> Any:
        async with create_pool(database_url) as pool:
            return await NodePatternStorageEffect(pool).execute_once(late)

    assert asyncio.run(execute()).metadata["error_type"] == "revoked"


def test_a_job_that_waits_is_shown_with_all_that_a_list_says(
    run: Any, client: PatternStorageClient, database_url: str
) -> None:
    job = client.insert(make_pattern(pattern_name="waits"), queue="quick", delay=60)
    with psycopg.connect(database_url) as connection:
        written = contract("insert", data=make_pattern(pattern_name="written"))
        outbox.add_sync(connection, written)
    listed = run("jobs", "list", "--state", "QUEUED", "--json").json
    [message], [row] = listed["waiting"], listed["jobs"]
    shown = run("jobs", "show", str(job.correlation_id), "--json").json
    assert shown.items() >= message.items()
    assert shown["timeline"][0]["what"] == "submitted"
    assert shown["timeline"][0]["at"] == message["sent_at"]
    assert run("jobs", "show", str(written.correlation_id), "--json").json.items() >= row.items()

    lines = run("jobs", "list", "--state", "QUEUED").out.splitlines()[2:]
    for line, one in zip(lines, (str(job.correlation_id), str(written.correlation_id)), strict=True):
        text = run("jobs", "show", one).out
        assert all(cell in text for cell in re.split(" {2,}", line)[1:]), (line, text)
        assert one in line
    text = run("jobs", "show", str(job.correlation_id)).out
    assert text.startswith("insert waits (function/python)\n")
    assert re.search(r"^queue\s+quick$", text, re.MULTILINE)
    begins = message["eta"][:19].replace("T", " ")
    assert re.search(rf"^begins at \(UTC\)\s+{begins}$", text, re.MULTILINE)


def test_a_batch_has_its_size_and_a_change_the_name_of_its_pattern(run: Any, database_url: str) -> None:
    batch = contract("batch_insert", patterns=[make_pattern(pattern_name=name) for name in ("x", "y")])

    async def execute() -> str:
        async with create_pool(database_url) as pool:
            node = NodePatternStorageEffect(pool)
            stored = await node.execute_once(batch)
            first = stored.data["pattern_ids"][0]
            await node.execute_once(contract("update", pattern_id=first, data={"usage_count": 1}))
            return str(first)

    first = asyncio.run(execute())
    listed = run("jobs", "list").out
    assert "batch_insert 2 patterns, first x" in listed
    assert "update x" in listed
    shown = run("jobs", "show", str(batch.correlation_id)).out
    assert re.search(rf"^first pattern id\s+{first}$", shown, re.MULTILINE)
    assert re.search(r"^patterns\s+2$", shown, re.MULTILINE)


def interrupt(*_: object, **__: object) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def test_dead_letters_are_replayed_and_discarded_with_an_audit(
    run: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = contract("insert", data=make_pattern())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)"
            " VALUES (%s, %s, 'connection_lost', 'gone', 5, now())",
            [letter.correlation_id, Json(letter.model_dump(mode="json"))],
        )
    job = str(letter.correlation_id)
    assert run("jobs", "list", "--state", "DEAD", "--json").json["jobs"][0]["correlation_id"] == job
    dry = run("dead-letters", "replay", "--all", "--dry-run", "--json").json
    assert dry == {"action": "replayed", "count": 1, "dry_run": True, "correlation_ids": [job]}
    with monkeypatch.context() as patch:
        patch.setattr(PatternStorageClient, "submit_again", interrupt)
        stopped = run("dead-letters", "replay", job)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.startswith("What was sent again until now goes on: ")
    assert run("dead-letters", "replay", job, "--json").json["count"] == 1
    assert run("dead-letters", "discard", "--error-type", "connection_lost", "--yes", "--json").json["count"] == 1
    entries = [(entry["action"], entry["filter"]) for entry in run("audit", "--json").json]
    assert entries == [
        ("discard dead letters", {"error_type": "connection_lost"}), ("replay dead letters", {"jobs": [job]}),
    ]  # fmt: skip


def test_imports_are_paused_run_and_stopped(run: Any, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "imports.toml"
    file.write_text('[[import]]\nname = "nightly"\nsource = "a.jsonl"\nevery = "1h"\n')

    def imports(*arguments: str) -> Said:
        return cast("Said", run("imports", *arguments, PATTERN_STORAGE_IMPORTS_FILE=str(file)))

    assert imports("pause", "nightly", "--json").json["changed"]
    assert imports("list", "--json").json[0]["paused"]
    assert "paused" in imports("list").out
    assert "nightly is resumed now" in imports("resume", "nightly").error
    for action in ("pause", "resume", "run"):
        said = imports(action, "x")
        assert (said.code, said.error) == (2, "Error: there is no import 'x'; known are nightly")
    [started] = imports("run", "nightly", "--wait", "0").out.split()
    second = imports("run", "nightly", "--wait", "0")
    assert (second.code, second.error) == (1, f"Error: run {started} of 'nightly' has not ended yet")
    stopped = imports("stop", "nightly", "--json")
    assert stopped.json["runs"] == [started]
    assert imports("stop", "nightly") == Said(1, "", "nightly has no run that waits or is executed\n")
    assert imports("stop", "nightly", "--json").code == 1
    assert [run["state"] for run in runs_of(database_url)] == ["cancelled"]
    audit = run("audit", "--json").json
    assert [entry["action"] for entry in audit] == ["stop import", "run import", "resume import", "pause import"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["jobs", "list", "--operation", "drop"], 2, "--operation is 'drop'"),
        (["jobs", "list", "--state", "NOPE"], 2, "--state is 'NOPE'"),
        (["jobs", "list", "--limit", "x"], 2, "Invalid value for '--limit'"),
        (["jobs", "list", "--colour"], 2, "No such option"),
        (["jobs", "show", "7"], 2, "valid UUID"),
        (["queues", "pause", "a b"], 2, "there is no queue 'a b'"),
        (["audit"], 3, "PostgreSQL"),
        (["status", str(UUID(int=7))], 3, "does not answer"),
    ],
)
def test_json_also_of_errors(cli: Cli, arguments: list[str], code: int, says: str) -> None:
    servers: dict[str, Any] = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}
    said = cli(*arguments, "--json", **servers)
    document = json.loads(said.out)
    assert (said.code, document["exit_code"]) == (code, code)
    assert says in document["error"]
    assert said.err == ""


def test_a_terminal_of_80_columns(run: Any, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = fail(database_url, "AsyncDatabaseWriterPattern")
    monkeypatch.setattr(type(output.out), "is_terminal", property(lambda _: True))
    monkeypatch.setattr(output.out, "_width", 80)
    said = run("jobs", "list", "--state", "FAILURE")
    _, _, line = said.out.splitlines()
    assert len(line) <= 80
    assert re.match(rf"{failed}  FAILURE  \d\d-\d\d \d\d:\d\d  insert AsyncDatabas…$", line)
    # What is wrong has the longest lines.
    checked = run("doctor", PATTERN_STORAGE_FLOWER_PASSWORD="correct-horse", PATTERN_STORAGE_CONNECT_TIMEOUT="1")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in checked.out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert any("WRONG" in line for line in lines)


def test_where_very_many_jobs_wait_a_list_says_how_to_go_on(run: Any, database_url: str) -> None:
    failed = fail(database_url, "writer")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO outbox (correlation_id, contract, created_at, publish_after)"
            " SELECT gen_random_uuid(), '{}', now() + n * interval '1 second', now() + interval '1 day'"
            " FROM generate_series(1, 10100) AS n"
        )
    said = run("jobs", "list", "--error-type", "unique_violation")
    assert said.out.startswith("0 jobs")
    start, cursor = said.err.strip().rsplit(" ", 1)
    assert " ".join(start.split()) == (
        "Of the jobs that have not ended 10,000 of each kind were searched; to go on: add --cursor"
    )
    later = run("jobs", "list", "--error-type", "unique_violation", "--cursor", cursor, "--json").json
    assert [job["correlation_id"] for job in later["jobs"]] == [failed]
