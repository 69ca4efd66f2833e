"""What is told of a source holds no secret, and neither do the files of a run."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.redaction import contains_password, redact
from pattern_storage.tasks.imports.run.rejects import Rejects


@pytest.mark.parametrize(
    "source",
    [
        "https://me:secret@host/a.jsonl",
        "https://:secret@host/a.jsonl",
        "ftp://me:sec@ret@host/a.jsonl",
        "simplecache::https://me:secret@host/a.jsonl",
        "filecache::ftp://me:secret@host/a.jsonl",
        "zip://a.csv::https://me:secret@host/a.zip",
        "zip://a.csv::simplecache::https://me:secret@host/a.zip",
        "https://me:sec::ret@host/a.jsonl",
    ],
)
def test_a_password_anywhere_in_a_chain_is_found_and_not_shown(source: str) -> None:
    assert contains_password(source)
    with pytest.raises(ValueError, match="source holds a password"):
        ImportPlan.model_validate({"name": "n", "source": source, "format": "csv"})
    assert "ret" not in redact(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("drop/a b?.jsonl", "drop/a b?.jsonl"),
        ("/data/me:x@y/a.jsonl", "/data/me:x@y/a.jsonl"),
        ("s3://bucket/me:x@y/*.jsonl", "s3://bucket/me:x@y/*.jsonl"),
        ("file:///data/a.jsonl", "file:///data/a.jsonl"),
        ("https://host:8443/a.jsonl?sig=secret#part", "https://host:8443/a.jsonl"),
        ("https://me@host/a.jsonl", "https://host/a.jsonl"),
        ("http://[::1]:8000/a.jsonl?sig=secret", "http://[::1]:8000/a.jsonl"),
        ("simplecache::https://host/a.jsonl?sig=secret", "simplecache::https://host/a.jsonl"),
        ("simplecache::https://host/a.jsonl?sig=sec::ret", "simplecache::https://host/a.jsonl"),
        ("zip://*.csv::https://me@host/a.zip?sig=secret", "zip://*.csv::https://host/a.zip"),
        ("zip://a.csv?b=secret::https://host/a.zip?sig=secret", "zip://a.csv::https://host/a.zip"),
    ],
)
def test_what_is_shown_of_a_source(source: str, expected: str) -> None:
    assert not contains_password(source)
    assert redact(source) == expected


def test_files_of_bad_rows_are_their_owners_and_hold_no_secret(tmp_path: Path) -> None:
    plan = ImportPlan.model_validate({"name": "n", "source": "https://host/x.jsonl?sig=secret", "max_bad_rows": 1})
    rejects = Rejects(tmp_path, plan, uuid4())
    # Left by a run that was killed.
    rejects.path.parent.mkdir()
    rejects.path.touch(0o644)
    rejects.add("x.jsonl", 1, "bad", b"{}")
    rejects.write_report({"state": "done"})
    for path in (rejects.path, rejects.report_path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert "secret" not in path.read_text(encoding="utf-8")
    assert json.loads(rejects.report_path.read_text(encoding="utf-8"))["source"] == "https://host/x.jsonl"


def test_a_run_that_reads_its_source_again_and_fails_leaves_no_file(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path, ImportPlan.model_validate({"name": "n", "source": "x.csv", "max_bad_rows": 1}), uuid4())
    rejects.add("x.csv", 1, "bad", {})
    assert rejects.path.exists()
    rejects.start_over()
    rejects.discard()
    assert not rejects.path.exists()
