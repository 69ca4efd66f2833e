"""Tables and lists: each fits its terminal, a pipe gets whole values, and nothing is lost."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from rich.cells import cell_len
from rich.console import Console

from pattern_storage.tasks.cli.tables import print_list, print_pairs, print_table

LONG = "z" * 300


@pytest.fixture(autouse=True)
def _narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(width=80, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr("pattern_storage.tasks.cli.tables.out", terminal)


@pytest.fixture
def _pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pattern_storage.tasks.cli.tables.out", Console(highlight=False, force_terminal=False))


WORDS = "no word of this sentence may be broken " * 5

ROWS = [
    (("id", "pattern", "confidence", "updated"), (str(uuid4()), WORDS, 0.5, "2026-11-23\n14:52:09")),
    (("batch", "correlation id", "stored", "error"), (1, str(uuid4()), 1_000, LONG)),
    (("", "step", "outcome, correlation id", "worker", "total"), ("ok", "s " * 30, f"{WORDS}\n{uuid4()}", "1", "2")),
    (("", "what", "found", "what to do"), ("WRONG", WORDS, WORDS, WORDS)),
    (("correlation id", "job", "error", "attempts", "died"),
     (str(uuid4()), "insert AsyncDatabaseWriterPattern (code/python)", "serialization_failure", 5, "2026-11-23")),
    (("run id", "import", "state", "rows", "since"), (str(uuid4()), "nightly_patterns", "succeeded", "1,200,000", "x")),
    (("field", "value"), ("pattern_id", str(uuid4()))),
    (("field", "value"), ("error", LONG)),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "row"), ROWS)
def test_a_table_fits_80_columns_and_breaks_no_word(
    columns: tuple[str, ...], row: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(columns, [row])
    lines = capsys.readouterr().out.splitlines()
    # The terminal itself wraps a word that is longer than a line: copied, it is one word again.
    assert max(len(line) for line in lines if LONG not in line) <= 80
    printed = Counter(" ".join(lines).replace(":", " ").split())
    for text in (*columns, *map(str, row)):
        # Two columns that do not fit are names with their values.
        words = [word for word in text.replace(":", " ").split() if word not in ("field", "value")]
        assert not Counter(words) - printed, words


def test_a_record_is_a_name_and_a_value_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A name of 50 characters, an id and a time fit no table of 80 columns; nothing of them is broken."""
    job, name = str(uuid4()), f"writer.{uuid4()}.write"
    print_table(("correlation id", "job", "since"), [(job, f"insert\n{name}", "2026-11-23\n14:52:09")])
    assert capsys.readouterr().out.splitlines() == [
        "", f"correlation id: {job}", f"job: insert {name}", "since: 2026-11-23 14:52:09", "",
    ]  # fmt: skip
    print_pairs({"pattern_id": job, "pattern_name": f"{name} {name}"}, title="insert done")
    assert capsys.readouterr().out.count(name) == 2
    print_pairs({"pattern_id": job, "pattern_name": LONG}, title="insert done")
    assert capsys.readouterr().out.splitlines() == ["insert done", f"pattern_id: {job}", f"pattern_name: {LONG}"]


@pytest.mark.usefixtures("_pipe")
@pytest.mark.parametrize(("columns", "row"), ROWS)
def test_a_pipe_gets_a_line_a_row_and_whole_values(
    columns: tuple[str, ...], row: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(columns, [row, row])
    printed = capsys.readouterr().out
    print_list(columns, [row, row], title="2 rows")
    title, head, *lines = capsys.readouterr().out.splitlines()
    assert printed.splitlines() == [head, *lines]
    assert title == "2 rows"
    assert len(lines) == 2
    place = 0
    for column, cell in zip(columns, row, strict=True):
        text = " ".join(str(cell).split("\n"))
        place = lines[0].index(text.rstrip(), place)
        # Aligned under its heading.
        assert head[place:].startswith(column)
        place += len(text)


JOBS = ("correlation id", "state", "since (UTC)", "job", "error type")


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (40, "correlation id"),
        (70, "correlation id                        state    since (UTC)"),
        (80, "correlation id                        state    since (UTC)  job"),
        (200, "correlation id                        state    since (UTC)          job{}  error type"),
    ],
)
def test_a_list_is_a_line_a_row_on_any_terminal(
    width: int, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Console(width=width, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr("pattern_storage.tasks.cli.tables.out", terminal)
    name, at = f"insert 漢 {'n' * 40}", datetime(2026, 11, 23, 14, 52, 9, tzinfo=UTC)
    rows = [(uuid4(), "FAILURE", at, name, "unique_violation"), (uuid4(), "SUCCESS", at, "insert\nb", None)]
    print_list(JOBS, rows, title="2 jobs")
    title, head, *lines = capsys.readouterr().out.splitlines()
    assert (title, head) == ("2 jobs", columns.format(" " * 47))
    assert len(lines) == 2
    for line, row in zip(lines, rows, strict=True):
        assert line.startswith(str(row[0]))
        assert cell_len(line) <= width
    if width == 80:
        # Nothing but the last column is cut off.
        assert lines[0][36:] == "  FAILURE  11-23 14:52  insert 漢 nnnnnnnnn…"
        assert lines[1].endswith("insert b")
    if width == 200:
        assert lines[0][36:] == f"  FAILURE  2026-11-23 14:52:09  {name}  unique_violation"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("extra", [0, 2, 4])
def test_no_character_of_a_table_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, extra: int
) -> None:
    monkeypatch.setattr(
        "pattern_storage.tasks.cli.tables.out",
        Console(width=width, highlight=False, force_terminal=True, color_system=None),
    )
    columns = ["run id", "import, due (UTC)", "state, since", *(f"column {number}" for number in range(extra))]
    rows = [[str(uuid4()), "nightly\n2026-11-24 22:05:46", "done", *("x" * 19 for _ in range(extra))] for _ in range(3)]
    print_table(columns, rows)
    said = capsys.readouterr().out
    for row in rows:
        assert row[0] in said
    for text in ("nightly", "done", "run id"):
        assert text in said
    assert said.count("x") == 3 * 19 * extra
    assert said.count("2026-11-24") == said.count("22:05:46") == 3


@pytest.mark.usefixtures("_pipe")
def test_an_empty_list_is_its_title_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(("a", "b"), [], title="0 found")
    assert capsys.readouterr().out == "0 found\n"


@pytest.mark.usefixtures("_pipe")
def test_a_sentence_of_libpq_stays_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [("Connection refused\n\tIs the server running?",)])
    assert capsys.readouterr().out.splitlines()[-1] == "Connection refused Is the server running?"
