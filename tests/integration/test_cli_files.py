"""Files of patterns from the command line: one job, several batches, and rows that are wrong."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from pattern_storage.tasks.client import Job
from tests.fix_cli import PATTERN, Cli, insert, numbered, records
from tests.fix_imports import write_lines


def test_a_file_of_one_pattern_is_an_insert(served_cli: Cli, name: str, tmp_path: Path) -> None:
    said = served_cli("insert", "--file", str(write_lines(tmp_path / "p", numbered(name, 1))), "--json")
    assert (said.code, said.json["metadata"]["operation"]) == (0, "insert")
    assert len(records(served_cli, "--name", f"{name} 000")) == 1


def test_a_file_that_fits_a_batch_is_one_job(served_cli: Cli, name: str, tmp_path: Path) -> None:
    job = str(uuid4())
    file = str(write_lines(tmp_path / "p", numbered(name, 5)))
    said = served_cli("insert", "--file", file, "--id", job)
    assert said.code == 0
    assert said.out.startswith("batch_insert done")
    assert "(5 in all)" in said.out
    assert served_cli("status", job).out == "SUCCESS\n"


def test_standard_input_is_a_file_too(served_cli: Cli, name: str) -> None:
    said = served_cli("insert", "-f", "-", "--json", stdin=json.dumps(numbered(name, 3)).encode())
    assert (said.code, said.json["data"]["count"]) == (0, 3)


def test_of_several_batches_one_fails(served_cli: Cli, name: str, tmp_path: Path) -> None:
    patterns = numbered(name, 8)
    insert(served_cli, patterns[4]["pattern_name"])  # in the second batch of three
    file = str(write_lines(tmp_path / "p", patterns))
    said = served_cli("insert", "--file", file, "--batch-size", "3", "--json")
    assert said.code == 1
    assert [result["success"] for result in said.json] == [True, False, True]
    assert said.json[1]["metadata"]["failed_index"] == 1
    assert said.error == "1 of 3 batches failed and wrote nothing."
    stored = {record["pattern_name"] for record in records(served_cli, "--contains", name)}
    assert stored == {patterns[number]["pattern_name"] for number in (0, 1, 2, 4, 6, 7)}

    said = served_cli("insert", "--file", file, "--batch-size", "3")
    assert said.code == 1
    assert "3 of 3 batches failed" in said.error
    assert f"batch 2: {file}, line 5: Pattern already exists" in said.error
    ids = [word for word in said.out.split() if len(word) == 36 and word.count("-") == 4]
    assert len(ids) == 3
    assert all(served_cli("status", job).out == "FAILURE\n" for job in ids)


def test_several_batches_without_waiting(served_cli: Cli, name: str, tmp_path: Path) -> None:
    file = str(write_lines(tmp_path / "p", numbered(name, 4)))
    said = served_cli("insert", "--file", file, "--batch-size", "2", "--wait", "0")
    ids = said.out.split()
    assert (said.code, len(ids)) == (0, 2)
    assert all(served_cli("result", job, "--wait", "30").code == 0 for job in ids)
    ids = served_cli("insert", "--file", file, "--batch-size", "2", "--wait", "0", "--json").json["correlation_ids"]
    assert [served_cli("result", job, "--wait", "30").code for job in ids] == [1, 1]


def test_one_id_for_several_batches_is_refused(served_cli: Cli, name: str, tmp_path: Path) -> None:
    file = str(write_lines(tmp_path / "p", numbered(name, 4)))
    said = served_cli("insert", "--file", file, "--batch-size", "2", "--id", str(uuid4()))
    assert (said.code, said.error) == (
        2, "Error: --id names one job, but 4 patterns make 2; raise --batch-size"
    )  # fmt: skip


@pytest.mark.parametrize("wrong", [{"confidence_score": 7}, {"language": None}, {"colour": "red"}])
def test_a_wrong_row_at_the_end_of_a_file_sends_nothing(
    cli: Cli, name: str, tmp_path: Path, redis_url: str, wrong: dict[str, Any]
) -> None:
    patterns = numbered(name, 6)
    patterns[5] |= wrong
    said = cli("insert", "--file", str(write_lines(tmp_path / "p", patterns)), "--batch-size", "2", REDIS_URL=redis_url)
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith(f"Error: {tmp_path / 'p'}, line 6: ")
    assert next(iter(wrong)) in said.error
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys() == []


def test_a_file_that_is_no_json_names_the_line(served_cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text('{"a": 1}\n{"b": \n')
    said = served_cli("insert", "--file", str(file))
    assert (said.code, said.error) == (2, f"Error: {file} is not JSON at line 2, column 7: Expecting value")
    file.write_text('{"a": 1\n')
    said = served_cli("insert", "--file", str(file))
    assert said.error == f"Error: {file} is not JSON at line 1, column 8: Expecting ',' delimiter"


def test_ctrl_c_leaves_code_130_and_the_id_of_the_job(
    cli: Cli, name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "result", interrupted)
    said = cli("insert", f"pattern_name={name}", *PATTERN, "--id", (job := str(uuid4())), REDIS_URL=redis_url)
    assert (said.code, said.out) == (130, "")
    assert said.error.startswith(f"The job {job} goes on: ")
