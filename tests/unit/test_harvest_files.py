"""Files of a harvest: bad ones are reported, links and pipes do not hang, each is read when its patterns are taken."""

import ast
import os
import warnings
from pathlib import Path

import pytest

from pattern_storage.extract import MAX_FILE_BYTES, HarvestError, harvest
from tests.fix_harvest import Write, named, only, skipped


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"def f(:\n", "cannot parse the file: invalid syntax in line 1."),
        (b"print 'x'\n", "cannot parse the file: Missing parentheses"),
        (b"def f(): return '\0'\n", "null bytes"),
        (b"# coding: no-such\n", "The file cannot be decoded: unknown encoding"),
        (b"# coding: hex\n", "The file cannot be decoded: 'hex' is not a text encoding"),
        (b"x = '\xff'\n", "The file cannot be decoded: "),
        (b"# coding: ascii\n" + b"#\n" * 9000 + b"x = '\xff'\n", "The file cannot be decoded: 'ascii' codec"),
        (b"# coding: utf-7\nx = '+2AA-'\n", "cannot parse the file: 'utf-8' codec can't encode"),
        (b"x = " + b"-" * 100_000 + b"1\n", "cannot parse the file: "),
        (b"x = " + b"+".join([b"1"] * 200_000) + b"\n", "cannot parse the file: "),
    ],
)
def test_a_bad_file_is_reported_and_the_next_one_harvested(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.py").write_bytes(content)
    (tmp_path / "good.py").write_text("def f(): pass\n")
    names, reasons = skipped(tmp_path)
    assert names == ["good.f"]
    assert list(reasons) == ["bad.py"]
    assert reason in reasons["bad.py"]
    assert reasons["bad.py"].endswith(".")
    assert [p["pattern_name"] for p in harvest(tmp_path)] == names  # on_skip is optional


@pytest.mark.parametrize(
    "content",
    [
        "# -*- coding: latin-1 -*-\ndef f(): return 'é'\n".encode("latin-1"),
        b"\xef\xbb\xbf" + "def f(): return 'é'\n".encode(),
    ],
)
def test_the_encoding_a_file_declares_is_honoured(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.py").write_bytes(content)
    assert only(tmp_path / "m.py")["template_code"] == "def f(): return 'é'"


def test_warnings_about_foreign_source_do_not_get_out(write_source: Write) -> None:
    path = write_source("m.py", r"def f(): return '\d' is 1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        for pattern in harvest(path):
            assert pattern["pattern_name"] == "m.f"
            assert list(warnings.filters) == before  # nor are the caller's filters changed meanwhile
        assert caught == []
        ast.parse(path.read_text())
    assert caught  # so the source does warn where nobody holds it back


def test_a_file_too_large_to_parse_is_skipped_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.py").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    names, reasons = skipped(tmp_path)
    assert not names
    assert reasons == {"large.py": "The file has 16777217 bytes, more than the 16777216 that are parsed."}


def test_links_and_pipes_do_not_hang(write_source: Write, tmp_path: Path) -> None:
    write_source("pkg/real.py", "def f(): pass")
    (tmp_path / "pkg" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "pkg" / "linked.py").symlink_to("real.py")
    (tmp_path / "pkg" / "dangling.py").symlink_to("nowhere")
    (tmp_path / "pkg" / "self.py").symlink_to("self.py")
    os.mkfifo(tmp_path / "pkg" / "pipe.py")
    names, reasons = skipped(tmp_path)
    assert names == ["pkg.linked.f", "pkg.real.f"]
    assert reasons == dict.fromkeys(["dangling.py", "pipe.py", "self.py"], "It is not a regular file.")
    with pytest.raises(HarvestError, match=r"There is nothing to harvest at .*self"):
        harvest(tmp_path / "pkg" / "self.py")


def test_a_path_that_cannot_be_harvested_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HarvestError, match=r"notes\.txt' is neither a directory nor a Python file"):
        harvest(tmp_path / "notes.txt")
    with pytest.raises(HarvestError, match=r"There is nothing to harvest at .*missing.*: No such file"):
        harvest(tmp_path / "missing")


def test_files_are_read_one_by_one_as_patterns_are_taken(write_source: Write) -> None:
    write_source("a.py", "def f(): pass")
    later = write_source("b.py", "def f(): pass")
    patterns = harvest(later.parent)
    next(patterns)
    later.write_text("def changed(): pass")
    assert next(patterns)["pattern_name"] == "b.changed"


def test_excluded_directories_count_below_the_root_only(write_source: Write, tmp_path: Path) -> None:
    write_source("test/m.py", "def f(): pass")
    write_source("test/tests/m.py", "def f(): pass")
    write_source("test/mine/test.py", "def f(): pass")
    assert list(named(tmp_path)) == []
    assert list(named(tmp_path / "test")) == ["m.f", "mine.test.f"]
    assert [p["pattern_name"] for p in harvest(tmp_path / "test", exclude=["mine"])] == ["m.f", "tests.m.f"]
