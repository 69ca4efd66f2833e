"""Sources of imports: local files with links, pipes and odd names, and sources that are unchanged, change or vanish."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from pattern_storage.tasks.imports.sources.files import Source
from tests.fix_imports import Importing, make_plan, newest_run, patterns, stored_names, write_lines
from tests.fix_storage import Connection, make_pattern


async def test_a_mounted_config_map_is_nothing_but_links(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    """Kubernetes changes all files at once: each is a link through `..data`, which is a link as well."""
    revision = tmp_path / "..2026_01_01"
    revision.mkdir()
    for name in ("a", "b"):
        write_lines(revision / f"{name}.jsonl", patterns(2))
        (tmp_path / f"{name}.jsonl").symlink_to(f"..data/{name}.jsonl")
    (tmp_path / "..data").symlink_to(revision.name)
    plan = make_plan(f"{tmp_path}/*.jsonl", on_conflict="skip")
    result = await importing(plan)
    assert result.success, result.error
    assert result.data["rows_inserted"] == 4
    assert (await importing(plan)).data["state"] == "unchanged"
    write_lines(revision / "b.jsonl", patterns(1))
    assert (await importing(plan)).data["rows_inserted"] == 1, "a change behind the links is seen"
    everywhere = await importing(make_plan(f"{tmp_path}/**", format="jsonl", on_conflict="skip", name="all"))
    assert everywhere.data["rows_read"] == 3, "hidden folders are left out, each file is there once"
    assert len(await stored_names(connection)) == 5


async def test_a_link_to_nothing(importing: Importing, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", patterns(1))
    (tmp_path / "b.jsonl").symlink_to("gone.jsonl")
    for source in (f"{tmp_path}/*.jsonl", f"{tmp_path}/b.jsonl"):
        result = await importing(make_plan(source))
        assert result.metadata["error_type"] == "source_missing"
        assert result.error == f"{tmp_path}/b.jsonl is a symbolic link to gone.jsonl, which does not exist"
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "b.jsonl").symlink_to("b.jsonl")
    result = await importing(make_plan(tmp_path / "b.jsonl"))
    assert (result.metadata["error_type"], result.metadata.get("retryable")) == ("source_unreadable", None)


@pytest.mark.parametrize("source", ["pipe.jsonl", "*.jsonl"])
async def test_a_pipe_is_refused_at_once(importing: Importing, tmp_path: Path, source: str) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    result = await importing(make_plan(tmp_path / source))
    assert (result.metadata["error_type"], result.metadata.get("retryable")) == ("source_unreadable", None)
    assert "is a pipe, and an import reads its source more than once; write it to a file first" in str(result.error)


async def test_process_substitution_and_devices(importing: Importing) -> None:
    reading, writing = os.pipe()
    try:
        result = await importing(make_plan(f"/dev/fd/{reading}", format="jsonl"))
    finally:
        os.close(reading)
        os.close(writing)
    assert result.error == (
        f"/dev/fd/{reading} is a pipe, and an import reads its source more than once; write it to a file first"
    )
    assert "is a device" in str((await importing(make_plan("/dev/null", format="jsonl"))).error)


ODD = [
    "a:b.jsonl",
    "a::b.jsonl",
    "s3::b.jsonl",
    "[ab].jsonl",
    "a b%20c.jsonl",
    "a#b?c.jsonl",
    "A.JSONL",
    "new\nline.jsonl",
]


@pytest.mark.parametrize("pattern", [False, True])
async def test_odd_names(importing: Importing, tmp_path: Path, pattern: bool) -> None:
    for number, name in enumerate(ODD):
        folder = tmp_path / f"[{number}]"
        folder.mkdir()
        write_lines(folder / name, patterns(1))
        result = await importing(make_plan(f"{folder}/*{name[1:]}" if pattern else f"{folder}/{name}"))
        assert result.success, (name, result.error)
        assert result.data["rows_inserted"] == 1, name


@pytest.mark.parametrize("url", ["file://{}", "file:{}", "local://{}"])
async def test_a_file_url_is_percent_encoded(importing: Importing, tmp_path: Path, url: str) -> None:
    write_lines(tmp_path / "a b.jsonl", patterns(1))
    result = await importing(make_plan(url.format(f"{tmp_path}/a%20b.jsonl")))
    assert result.success, result.error


async def test_a_name_that_is_not_utf8(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_text("rubbish\n")
    write_lines(tmp_path / "other.jsonl", patterns(1))
    result = await importing(make_plan(f"{tmp_path}/*.jsonl"))
    [bad] = result.metadata["bad_rows"]
    assert bad["file"] == f"{tmp_path}/caf\\xe9.jsonl"
    assert await stored_names(connection) == []


async def test_an_unchanged_source_is_skipped_and_says_so(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(2))
    plan = make_plan(path, on_conflict="update")
    assert (await importing(plan)).data["state"] == "done"
    unchanged = await importing(plan)
    assert (unchanged.success, unchanged.data["state"], unchanged.data["rows_read"]) == (True, "unchanged", 0)
    assert (await newest_run(connection))["state"] == "unchanged"
    assert (await importing(plan, force=True)).data["state"] == "done"
    # Another plan is another question.
    assert (await importing(make_plan(path, on_conflict="skip"))).data["state"] == "done"
    os.utime(path, (1, 1))
    assert (await importing(plan)).data["state"] == "done"


async def test_several_files(importing: Importing, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_lines(tmp_path / f"{name}.jsonl", [make_pattern(pattern_name=name)])
    (tmp_path / "folder.jsonl").mkdir()
    plan = make_plan(f"{tmp_path}/*.jsonl", on_conflict="update")
    result = await importing(plan)
    assert (result.data["rows_read"], result.data["source_version"][:7]) == (3, "3 files")
    assert (await importing(plan)).data["state"] == "unchanged"
    write_lines(tmp_path / "d.jsonl", [make_pattern(pattern_name="d")])
    again = await importing(plan)
    assert (again.data["rows_inserted"], again.data["rows_skipped"]) == (1, 3)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("absent.jsonl", "absent.jsonl does not exist"),
        ("absent/*.jsonl", "absent/*.jsonl matches no file"),
        ("folder.csv", "is a folder; name its files with '/*'"),
        ("file.csv/x.csv", "does not exist"),
    ],
)
async def test_a_source_that_is_not_there(importing: Importing, tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").write_text("")
    result = await importing(make_plan(tmp_path / source))
    assert result.metadata["error_type"] == "source_missing"
    assert says in str(result.error)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nothing://x/a.csv", "nothing"),
        ("s3://bucket/a.csv", "the extra 's3'"),
        ("gcs://bucket/a.csv", "the extra 'gcs'"),
    ],
)
async def test_a_source_that_nobody_can_read(importing: Importing, source: str, says: str) -> None:
    result = await importing(make_plan(source))
    assert result.metadata["error_type"] == "source_unreadable"
    assert says in str(result.error)


async def test_python_source_has_to_be_local(importing: Importing) -> None:
    result = await importing(make_plan("memory://x", format="python"))
    assert "is not local, as Python source has to be" in str(result.error)


def when_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something when a source has been found and before it is read."""
    version = Source.version

    def then(source: Source) -> str:
        found = version(source)
        act()
        return found

    monkeypatch.setattr(Source, "version", then)


async def test_a_source_that_grows_while_it_is_read(
    importing: Importing, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(3))

    def grow() -> None:
        with path.open("a") as stream:
            stream.write(json.dumps(make_pattern()) + "\n")

    plan, run_id = make_plan(path), uuid4()
    with monkeypatch.context() as patch:
        when_read(patch, grow)
        result = await importing(plan, run_id)
    assert result.metadata["error_type"] == "source_changed"
    assert result.metadata["retryable"] is True
    assert await stored_names(connection) == []
    # At rest it is taken whole.
    assert (await importing(plan, run_id)).data["rows_inserted"] == 4


async def test_a_source_that_vanishes(
    importing: Importing, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    with monkeypatch.context() as patch:
        when_read(patch, path.unlink)
        result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "source_missing"
    write_lines(tmp_path / "b.jsonl", patterns(1))
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    read = Source.check_unchanged

    def vanished(source: Source) -> None:
        path.unlink(missing_ok=True)
        read(source)

    monkeypatch.setattr(Source, "check_unchanged", vanished)
    result = await importing(make_plan(f"{tmp_path}/*.jsonl"))
    assert result.metadata["error_type"] == "source_changed"
    assert "vanished while it was read" in str(result.error)
    assert await stored_names(connection) == []


async def test_a_source_without_time_or_tag_is_known_by_its_checksum(importing: Importing) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/{uuid4()}/a.jsonl.gz", b"")
    path = f"memory://{uuid4()}/a.jsonl"
    memory.pipe(path, json.dumps(make_pattern()).encode())
    plan = make_plan(path, on_conflict="skip")
    first = await importing(plan)
    assert first.success, first.error
    assert first.data["source_version"].startswith("sha256 ")
    assert first.data["bytes"] == memory.info(path)["size"]
    assert (await importing(plan)).data["state"] == "unchanged"
    memory.pipe(path, json.dumps(make_pattern()).encode())
    assert (await importing(plan)).data["rows_inserted"] == 1
