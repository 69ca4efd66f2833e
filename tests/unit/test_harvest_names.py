"""Names of harvested patterns: of their module, distinct, and no longer than the table takes."""

import os
from pathlib import Path

from pattern_storage.extract import harvest
from tests.fix_harvest import Write, named, only


def test_a_module_has_one_name_whichever_path_leads_to_it(write_source: Write, tmp_path: Path) -> None:
    write_source("pkg/__init__.py", "def top(): pass")
    write_source("pkg/sub/__init__.py", "")
    file = write_source("pkg/sub/mod.py", "def f(): pass")
    assert list(named(tmp_path)) == ["pkg.top", "pkg.sub.mod.f"]
    assert list(named(tmp_path / "pkg")) == ["pkg.top", "pkg.sub.mod.f"]
    assert list(named(tmp_path / "pkg" / "sub" / ".." / "sub")) == ["pkg.sub.mod.f"]
    assert only(file)["pattern_name"] == "pkg.sub.mod.f"
    assert only(file)["category"] == "pkg"


def test_files_outside_packages_are_named_from_the_root(write_source: Write, tmp_path: Path) -> None:
    write_source("__init__/x.py", "def f(): pass")
    write_source("scripts/my-tool.py", "def f(): pass")
    write_source("scripts/.hidden.py", "def f(): pass")
    assert list(named(tmp_path)) == ["__init__.x.f", "scripts..hidden.f", "scripts.my-tool.f"]
    assert only(tmp_path / "scripts" / ".hidden.py")["category"] == "hidden"


def test_a_redefinition_gets_a_number_within_its_own_type(write_source: Write, tmp_path: Path) -> None:
    write_source("a.py", "def b(): pass\ndef b(): pass\nclass b: pass\ndef b(): pass")
    write_source("b.py", "class A:\n    @property\n    def x(self): pass\n    @x.setter\n    def x(self, value): pass")
    found = [(p["pattern_name"], p["pattern_type"]) for p in harvest(tmp_path)]
    assert found == [
        ("a.b", "function"),
        ("a.b#2", "function"),
        ("a.b", "class"),
        ("a.b#3", "function"),
        ("b.A", "class"),
        ("b.A.x", "method"),
        ("b.A.x#2", "method"),
    ]


def test_names_too_long_for_the_table_are_cut_and_stay_distinct(write_source: Write) -> None:
    path = write_source("m.py", "".join(f"def {'f' * 300}{number}(): pass\n" for number in range(12)))
    names = list(named(path))
    assert len(names) == 12
    assert {len(name) for name in names} == {255}
    assert names[1].endswith("ff#2")
    assert names[11].endswith("ff#12")


def test_a_file_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("def f(): pass")
    assert only(tmp_path)["pattern_name"] == "caf\\udce9.f"
