"""`harvest`: patterns of real source as JSON Lines, in a file or down a pipe."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.fix_cli import Cli, command_line, names_in, run_script
from tests.fix_process import DEADLINE

SOURCE = '''
def first(x):
    """Return [x] é."""
    return x


class Second:
    def method(self):
        return "\\udc80"
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "module.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "code"


def names(text: str) -> list[str]:
    return [json.loads(line)["pattern_name"] for line in text.splitlines()]


def test_to_a_file(cli: Cli, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    said = cli("harvest", str(source), "-o", str(output))
    assert (said.code, said.out) == (0, "")
    assert said.error == f"3 patterns from {source}, 0 files skipped"
    assert names(output.read_text("utf-8")) == ["module.first", "module.Second", "module.Second.method"]
    assert "Return [x] é." in output.read_text("utf-8")
    assert names_in(tmp_path) == ["code", "out.jsonl"]
    said = cli("harvest", str(source), "-o", str(output), "--json")
    assert (said.code, said.json) == (0, {"patterns": 3, "output": str(output), "skipped": []})
    refused = cli("harvest", str(source), "--json")
    assert (refused.code, "--json is given without --output FILE" in refused.json["error"]) == (2, True)


def test_to_a_pipe(source: Path) -> None:
    # A locale without the letter é: JSON Lines are UTF-8 whatever the terminal speaks.
    said = run_script("harvest", str(source), PYTHONIOENCODING="ascii")
    assert said.code == 0
    assert len(names(said.out)) == 3
    assert "é" in said.out


def test_files_that_cannot_be_read_are_named(cli: Cli, source: Path) -> None:
    (source / "broken[1].py").write_text("def (:\n")
    said = cli("harvest", str(source))
    assert (said.code, len(said.out.splitlines())) == (0, 3)
    assert f"skipped {source / 'broken[1].py'}: " in said.err
    assert said.err.endswith(f"3 patterns from {source}, 1 files skipped\n")


def test_a_closed_pipe_is_no_error_message() -> None:
    command, environment = command_line("harvest")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["language"] == "python"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("arguments", [["harvest"], ["--version"], ["--help"]], ids=" ".join)
def test_a_full_disk_is_one_sentence(arguments: list[str]) -> None:
    command, environment = command_line(*arguments)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False
        )
    assert done.stderr == "Error: cannot write the output: No space left on device\n"
    assert done.returncode == 1


def test_a_reader_who_never_came_is_no_error_message() -> None:
    command, environment = command_line("--version")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_nothing_to_harvest(cli: Cli, tmp_path: Path) -> None:
    said = cli("harvest", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out"))
    assert (said.code, said.out) == (2, "")
    assert str(tmp_path / "nowhere") in said.error
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("output", [".", "/", "", "{}", "{}/no/such/folder", "{}/" + "n" * 255])
def test_an_output_that_cannot_be_written(cli: Cli, source: Path, tmp_path: Path, output: str) -> None:
    (tmp_path / "folder").mkdir()
    said = cli("harvest", str(source), "-o", output.format(tmp_path / "folder"))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Error: cannot write ")
    assert said.err.count("\n") == 1
    assert names_in(tmp_path / "folder") == []


def test_a_harvest_that_is_broken_off_leaves_the_old_file(
    cli: Cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("old")

    def interrupted(*arguments: object, **options: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("pattern_storage.tasks.cli.harvest.json.dumps", interrupted)
    said = cli("harvest", str(source), "-o", str(output))
    assert said.code not in (0, 2, 3)
    assert "Traceback" not in said.err
    assert output.read_text() == "old"
    assert names_in(tmp_path) == ["code", "out.jsonl"]


def test_a_device_stays_a_device_and_a_link_a_link(cli: Cli, source: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("harvest", str(source), "-o", str(tmp_path / "pipe")).code == 0
        assert len(names(os.read(reader, 1 << 16).decode())) == 3
        assert (tmp_path / "pipe").is_fifo()
    finally:
        os.close(reader)
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    assert cli("harvest", str(source), "-o", str(tmp_path / "link")).code == 0
    assert (tmp_path / "link").is_symlink()
    assert len(names((tmp_path / "target").read_text("utf-8"))) == 3
