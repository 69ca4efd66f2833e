"""Jobs from the command line: insert, update, delete, result, status, and what travels with each."""

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from tests.fix_cli import PATTERN, Cli, Said, insert, numbered, records
from tests.fix_imports import write_lines


def test_a_pattern_through_its_life_in_tables(served_cli: Cli, name: str) -> None:
    said = served_cli(
        "insert", f"pattern_name={name}", *PATTERN, "tags=a,b", "confidence_score=0.25", 'context={"k": 1}'
    )
    assert (said.code, said.err.startswith("correlation id ")) == (0, True)
    assert said.out.startswith("insert done")
    [record] = records(served_cli, "--name", name)
    assert record["id"] in said.out
    assert (record["tags"], record["confidence_score"], record["context"]) == (["a", "b"], 0.25, {"k": 1})

    said = served_cli("query", "--name", name)
    assert said.code == 0
    assert said.out.startswith("1 found")
    assert record["id"] in said.out

    said = served_cli("update", record["id"], "usage_count=7", "description=null")
    assert said.code == 0
    assert said.out.startswith("update done")
    assert "usage_count, description" in said.out
    assert records(served_cli, "--pattern-id", record["id"])[0]["usage_count"] == 7

    said = served_cli("delete", record["id"])
    assert (said.code, said.out.startswith("delete done")) == (0, True)
    assert records(served_cli, "--name", name) == []


def test_a_pattern_through_its_life_in_json(served_cli: Cli, name: str) -> None:
    said = served_cli("insert", f"pattern_name={name}", *PATTERN, "--json")
    result = said.json
    assert (said.code, said.err, result["success"]) == (0, "", True)
    assert set(result) == {"success", "data", "error", "metadata"}
    UUID(result["metadata"]["correlation_id"])
    pattern_id = result["data"]["pattern_id"]

    result = served_cli("update", pattern_id, "language=rust", "--json").json
    assert result["data"]["fields_updated"] == ["language"]
    result = served_cli("query", "--pattern-id", pattern_id, "--json").json
    assert (result["data"]["count"], result["data"]["patterns"][0]["language"]) == (1, "rust")
    seen = result["data"]["patterns"][0]["updated_at"]
    result = served_cli("update", pattern_id, "language=go", "--expect", "2020-01-01T00:00:00Z", "--json").json
    assert (result["metadata"]["error_type"], result["metadata"]["present_updated_at"]) == ("version_conflict", seen)
    result = served_cli("delete", pattern_id, "--expect", seen, "--json").json
    assert result["data"] == {"pattern_id": pattern_id, "pattern_name": name, "deleted": True}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_operation_is_exit_code_1(served_cli: Cli, name: str, as_json: bool) -> None:
    stored = insert(served_cli, name)
    nobody = str(uuid4())
    failures = [
        (("insert", f"pattern_name={name}", *PATTERN), "unique_violation", f"Pattern already exists: {name}"),
        (("insert", f"pattern_name={name}2", *PATTERN, f"parent_pattern_id={nobody}"),
         "foreign_key_violation", "Invalid reference (foreign key violation)"),
        (("update", nobody, "usage_count=1"), "validation_error", f"Pattern not found: {nobody}"),
        (("delete", nobody), "validation_error", f"Pattern not found: {nobody}"),
    ]  # fmt: skip
    for arguments, error_type, sentence in failures:
        said = served_cli(*arguments, *(["--json"] if as_json else []))
        assert said.code == 1
        if as_json:
            assert (said.json["success"], said.json["metadata"]["error_type"]) == (False, error_type)
            assert said.json["error"].startswith(sentence)
            # `result` says the same, also of a failed job.
            again = served_cli("result", said.json["metadata"]["correlation_id"], "--json")
            assert (again.code, again.json) == (1, said.json)
        else:
            assert said.out == ""
            assert said.err.startswith(f"{arguments[0]} failed ({error_type})\n")
            assert sentence in said.error
    assert records(served_cli, "--name", name)[0]["id"] == stored["pattern_id"]


def test_no_job_under_this_id(served_cli: Cli) -> None:
    nobody = str(uuid4())
    said = served_cli("result", nobody)
    assert (said.code, said.out) == (3, "")
    assert "its status is UNKNOWN" in said.error
    assert "(no job is known under this id, or its result has expired)" in said.error
    assert served_cli("status", nobody) == Said(0, "UNKNOWN\n", "")


def test_a_chosen_id_then_result_and_status(served_cli: Cli, name: str) -> None:
    job = str(uuid4())
    said = served_cli("insert", f"pattern_name={name}", *PATTERN, "--id", job, "--wait", "0")
    assert said == Said(0, f"{job}\n", "")
    waited = served_cli("result", job, "--wait", "30", "--json")
    assert (waited.code, waited.json["metadata"]["correlation_id"]) == (0, job)
    assert waited.json["data"]["pattern_name"] == name
    said = served_cli("result", job)
    assert said.code == 0
    assert waited.json["data"]["pattern_id"] in said.out
    assert served_cli("status", job).out == "SUCCESS\n"
    assert served_cli("status", job, "--json").json == {"correlation_id": job, "status": "SUCCESS"}

    job = str(uuid4())
    assert served_cli("query", "--wait", "0", "--json").json.keys() == {"correlation_id"}
    assert served_cli("delete", str(uuid4()), "--id", job, "--wait", "0", "--json").json == {"correlation_id": job}
    assert served_cli("result", job, "--wait", "30").code == 1
    assert served_cli("status", job).out == "FAILURE\n"


def test_a_text_with_everything_comes_back_as_it_was(served_cli: Cli, name: str, tmp_path: Path) -> None:
    text = "漢字 🙂 é\r\n\ttab \\ \" ' [bold] \u2028 end" * 500
    (tmp_path / "code").write_bytes(text.encode())
    fields = ("pattern_type=function", "language=python", f"template_code=@{tmp_path / 'code'}")
    assert served_cli("insert", f"pattern_name={name}", *fields).code == 0
    assert records(served_cli, "--name", name)[0]["template_code"] == text


def test_priority_and_delay(cli: Cli, name: str, redis_url: str, tmp_path: Path) -> None:
    """They travel with every job that the command makes."""
    later = ("--delay", "60", "--priority", "urgent", "--wait", "0")
    with redis.Redis.from_url(redis_url) as server:
        for made in (
            ("insert", f"pattern_name={name}", *PATTERN),
            ("insert", "-f", str(write_lines(tmp_path / "some.jsonl", numbered(name, 3)))),
            ("insert", "-f", str(write_lines(tmp_path / "more.jsonl", numbered(name, 3))), "--batch-size", "2"),
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
