"""Queries from the command line: every filter, pages, and tables."""

from pathlib import Path
from uuid import uuid4

from tests.fix_cli import Cli, insert, numbered, records
from tests.fix_imports import write_lines


def test_every_filter(served_cli: Cli, name: str) -> None:
    parent = insert(served_cli, f"{name} parent")["pattern_id"]
    record_id = insert(
        served_cli, f"{name} child", "category=cat", "created_by=me", "tags=x,y", 'context={"a": {"b": 1}}',
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
    assert [record["id"] for record in records(served_cli, *everything)] == [record_id]
    misses = [("--not-deprecated",), ("--tag-all", "z"), ("--context", '{"a": {"b": 2}}'), ("--min-confidence", "1"),
              ("--created-before", "2020-01-01T00:00:00Z"), ("--updated-after", "2120-01-01T00:00:00Z")]  # fmt: skip
    for miss in misses:
        assert records(served_cli, "--name", f"{name} child", *miss) == [], miss


def test_pages(served_cli: Cli, name: str, tmp_path: Path) -> None:
    patterns = numbered(name, 5)
    assert served_cli("insert", "--file", str(write_lines(tmp_path / "p", patterns))).code == 0
    asking = ("query", "--contains", name, "--order-by", "pattern_name", "--ascending", "--limit", "2")
    seen: list[str] = []
    more: tuple[str, ...] = ()
    while True:
        page = served_cli(*asking, *more, "--json").json["data"]
        seen += [record["pattern_name"] for record in page["patterns"]]
        if page["next_cursor"] is None:
            break
        # People are given the same cursor.
        assert f"There are more: add --cursor {page['next_cursor']}\n" in served_cli(*asking, *more).err
        more = ("--cursor", page["next_cursor"])
    assert seen == [pattern["pattern_name"] for pattern in patterns]


def test_a_table_keeps_ids_whole_and_takes_brackets_as_they_are(served_cli: Cli) -> None:
    long = f"[bold]{uuid4().hex[:6]} " + "long " * 40
    record_id = insert(served_cli, long)["pattern_id"]
    said = served_cli("query", "--pattern-id", record_id, COLUMNS="80")
    assert record_id in said.out
    assert "[bold]" in said.out
    # On a pipe a row is a line, however narrow the terminal.
    [row] = [line for line in said.out.splitlines() if record_id in line]
    assert row.count("long") == 40
