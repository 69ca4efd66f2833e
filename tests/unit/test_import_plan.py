"""The imports file: what is read from it, and what a wrong one says."""

import re
from pathlib import Path

import pytest

from pattern_storage.tasks.imports.location import absolute, local_path
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid, load_entries
from pattern_storage.tasks.imports.plan.model import ImportEntry, ImportPlan, format_of

ROOT = Path(__file__).parents[2]
GOOD = """
[[import]]
name = "nightly"
source = "s3://drop/patterns/*.jsonl.gz"
schedule = "30 2 * * *"
timezone = "Europe/Berlin"
on_conflict = "update"
misfire = "skip"
max_bad_rows = 10

[[import]]
name = "vendor.csv"
source = "incoming/vendor.csv"
every = "15m"
columns = {pattern_name = "Name", template_code = "Code"}
constants = {pattern_type = "function", language = "go"}
separator = ";"
delimiter = ";"
enabled = false

[[import]]
name = "by-hand"
source = "/srv/code"
format = "python"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "imports.toml"


def test_everything_that_can_be_said(file: Path) -> None:
    file.write_text(GOOD)
    nightly, vendor, by_hand = load_entries(file)
    assert (nightly.format, nightly.when, nightly.misfire) == ("jsonl", "30 2 * * * Europe/Berlin", "skip")
    assert (vendor.format, vendor.when, vendor.misfire) == ("csv", "every 15m", "once")
    assert (by_hand.format, by_hand.when, by_hand.due) == ("python", "by hand", None)
    # A relative source counts from the file's folder, a URL is left alone.
    assert nightly.source == "s3://drop/patterns/*.jsonl.gz"
    assert vendor.source == str(file.parent / "incoming/vendor.csv")
    # What a run has to know, and not when it is due.
    assert set(nightly.content) == set(ImportPlan.model_fields) - {"build_indexes_last"}, "older workers go on"
    last = ImportPlan.model_validate(nightly.content | {"build_indexes_last": True})
    assert last.content["build_indexes_last"]
    assert ImportPlan.model_validate(vendor.content).columns == {"pattern_name": "Name", "template_code": "Code"}


def test_the_example_in_the_repository() -> None:
    team, vendor, own = load_entries(ROOT / "imports.toml")
    assert (team.enabled, vendor.enabled, own.due) == (False, False, None)
    assert own.source == str(ROOT)


def test_every_key_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "imports.md").read_text(encoding="utf-8")
    # The first table is the one of the keys.
    rows = dict(reversed(re.findall(r"^\| `(\w+)` \| `?([^|]*?)`? \|", text, re.MULTILINE)))
    for name, field in ImportEntry.model_fields.items():
        assert name in rows
        if field.is_required():
            assert rows[name] in ("required", "by suffix")
        elif isinstance(field.default, str | bool | int):
            assert rows[name] == str(field.default).replace("True", "true").replace("False", "false")


def test_an_empty_file_has_no_imports(file: Path) -> None:
    file.write_text("")
    assert load_entries(file) == []


ENTRY = '[[import]]\nname = "n"\nsource = "a.jsonl"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[import]]\nname = "n', " is not TOML: "),
        ("\n\nwrong", " is not TOML: "),
        (ENTRY + 'colour = "red"', ", import 'n': unknown key 'colour'; "),
        (ENTRY + 'shedule = "* * * * *"', ", import 'n': unknown key 'shedule'; did you mean 'schedule'?"),
        ('[[import]]\nname = "n"', ", import 'n': source is required"),
        ('[[import]]\nsource = "a.jsonl"', ", import number 1: name is required"),
        (ENTRY + ENTRY, ", import 'n': name stands twice"),
        ('[[import]]\nname = "a b"\nsource = "a.csv"', ", import 'a b': name should match pattern"),
        ('[[import]]\nname = "n"\nsource = ""', ", import 'n': format is required"),
        (
            '[[import]]\nname = "n"\nsource = "a.xml"',
            ", import 'n': format is required: 'a.xml' does not end with one of",
        ),
        ('[[import]]\nname = "n"\nsource = "http://me:secret@host/a.csv"', ", import 'n': source holds a password"),
        (
            '[[import]]\nname = "n"\nsource = "zip://a.csv::http://me:secret@host/a.zip"\nformat = "csv"',
            ", import 'n': source holds a password",
        ),
        (ENTRY + 'schedule = "* * * *"', ", import 'n': schedule is '* * * *'; it should have five fields"),
        (ENTRY + 'schedule = "61 * * * *"', "five fields, such as '30 2 * * *': bad minute"),
        (ENTRY + 'schedule = "0 0 31 2 *"', ", import 'n': schedule is '0 0 31 2 *'"),
        (ENTRY + 'every = "often"', ", import 'n': every is 'often'; it should be a number with s, m, h or d"),
        (ENTRY + 'every = "0m"', ", import 'n': every is '0m'"),
        (ENTRY + 'every = "1h"\nschedule = "* * * * *"', ", import 'n': schedule and every cannot both be given"),
        (ENTRY + 'every = "1h"\ntimezone = "Europe/Berlin"', ", import 'n': timezone has no meaning for every"),
        (ENTRY + 'timezone = "Mars/Olympus"', ", import 'n': timezone is 'Mars/Olympus'; it should be an IANA name"),
        (ENTRY + 'timezone = "../etc/passwd"', ", import 'n': timezone is '../etc/passwd'"),
        (ENTRY + 'on_conflict = "ignore"', ", import 'n': on_conflict should be 'error', 'skip' or 'update'"),
        (ENTRY + 'misfire = "all"', ", import 'n': misfire should be 'skip' or 'once'"),
        (ENTRY + 'enabled = "yes"', ", import 'n': enabled should be a valid boolean"),
        (ENTRY + "max_bad_rows = -1", ", import 'n': max_bad_rows should be greater than or equal to 0"),
        (ENTRY + "max_bad_rows = 10001", ", import 'n': max_bad_rows should be less than or equal to 10000"),
        (ENTRY + "columns = {pattern_name = 'Name'}", ", import 'n': columns has no meaning for the format 'jsonl'"),
        (ENTRY + "constants = {colour = 'red'}", ", import 'n': constants: unknown column 'colour'"),
        (ENTRY + "constants = {language = 5}", ", import 'n': constants: language should be a valid string, got 5"),
        (ENTRY + "constants = {success_rate = inf}", ", import 'n': constants: success_rate should be a valid number"),
        (
            ENTRY + 'constants = {description = "a\\u0000"}',
            ", import 'n': constants: description: must not contain a NUL",
        ),
        (ENTRY + 'format = "csv"\ncolumns = {source = "\\u0000"}', ", import 'n': columns: '\\x00' is not UTF-8 text"),
        (ENTRY + 'separator = "\\u0000"', ", import 'n': separator: '\\x00' is not UTF-8 text"),
        (ENTRY + 'delimiter = "\\u0000"', ", import 'n': delimiter: '\\x00' is not UTF-8 text"),
        ("[import]\nname = 'n'", ": [import] is one table; write [[import]]"),
        ("[imports]", ": unknown key 'imports'; it should hold [[import]] tables"),
        ("import = [1]", ", import number 1: should be a table, got int"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(ImportsFileInvalid) as caught:
        load_entries(file)
    said = str(caught.value)
    assert said.startswith(str(file))
    assert says in said
    assert "secret" not in said
    assert "\n" not in said


def test_a_syntax_error_names_its_line(file: Path) -> None:
    file.write_text('[[import]]\nname = "n"\nsource = \n')
    with pytest.raises(ImportsFileInvalid, match="line 3"):
        load_entries(file)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(ImportsFileInvalid, match="cannot be read: No such file or directory"):
        load_entries(file)


def test_a_file_that_is_no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportsFileInvalid, match="is not TOML"):
        load_entries(file)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson.zst", "jsonl"),
        ("drop/*.csv.gz", "csv"),
        ("https://host/a.parquet?token=x.y", "parquet"),
        ("a.jsonl.bz2", "jsonl"),
        ("code.py", "python"),
    ],
)
def test_the_suffix_tells_the_format(source: str, found: str) -> None:
    assert format_of(source) == found


@pytest.mark.parametrize(
    ("source", "found"), [("A.JSONL", "jsonl"), ("a.CSV.GZ", "csv"), ("file:///drop/a%20b.Parquet", "parquet")]
)
def test_a_suffix_in_capitals(source: str, found: str) -> None:
    assert format_of(source) == found


def test_a_source_that_is_no_text() -> None:
    for source in ("a\udcff.jsonl", "a\0.jsonl"):
        with pytest.raises(ValueError, match="source is not UTF-8 text; name a part of it that is not with"):
            ImportPlan.model_validate({"name": "x", "source": source})


@pytest.mark.parametrize("delimiter", ['"', "\n"])
def test_a_delimiter_that_means_something_else(delimiter: str) -> None:
    with pytest.raises(ValueError, match="which has a meaning of its own in CSV"):
        ImportPlan.model_validate({"name": "x", "source": "a.csv", "delimiter": delimiter})


@pytest.mark.parametrize("zone", ["localtime", "posixrules", "Factory", "posix/UTC", "right/UTC"])
def test_a_time_zone_that_means_another_time_on_every_host(zone: str) -> None:
    with pytest.raises(ValueError, match="it should be an IANA name such as Europe/Berlin"):
        ImportEntry.model_validate({"name": "x", "source": "a.csv", "schedule": "0 2 * * *", "timezone": zone})


def test_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "imports.toml"
    file.write_bytes(b"\xef\xbb\xbf" + b'[[import]]\nname = "x"\nsource = "a.csv"\n')
    assert [entry.name for entry in load_entries(file)] == ["x"]


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("a.jsonl", "a.jsonl"),
        ("C:x.jsonl", "C:x.jsonl"),
        ("drop:1/a::b.jsonl", "drop:1/a::b.jsonl"),
        ("100%20.jsonl", "100%20.jsonl"),
        ("file:///drop/a%20b.jsonl", "/drop/a b.jsonl"),
        ("file://localhost/drop/a.jsonl", "/drop/a.jsonl"),
        ("file:/drop/a.jsonl", "/drop/a.jsonl"),
        ("s3://bucket/a.jsonl", None),
        ("simplecache::https://host/a.jsonl", None),
        ("zip://a.csv::/drop/a.zip", None),
        ("data:text/csv,a", None),
    ],
)
def test_which_source_is_a_local_path(source: str, path: str | None) -> None:
    assert local_path(source) == path


def test_a_source_that_is_a_url_is_no_path() -> None:
    assert absolute("memory://x", Path("/srv")) == "memory://x"
    assert absolute("file:///x", Path("/srv")) == "file:///x"
    assert absolute("a::b:c.csv", Path("/srv")) == "/srv/a::b:c.csv"
    assert absolute("x/*.csv", Path("/srv")) == "/srv/x/*.csv"
    assert absolute("/x", Path("/srv")) == "/x"


def test_a_home_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "imports.toml"
    path.write_text('[[import]]\nname = "a"\nsource = "~nobody-of-this-name/a.csv"\nevery = "1h"\n')
    with pytest.raises(ImportsFileInvalid, match=r"source is .~nobody-of-this-name/a\.csv., and nobody"):
        load_entries(path)
