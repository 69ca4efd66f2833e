"""Lists of one line a row, and tables of sentences; a pipe gets whole values, a line a row."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from pattern_storage.storage.explanation import CONTINUED, one_line
from pattern_storage.tasks.cli.output import out, utc

#: Elements of a list that are printed.
SHOWN_ITEMS = 3
#: Characters of a value that a line of a list ends with, at least.
SHORTEST = 11


def print_list(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print one line a row, the columns in the order of their importance.

    On a terminal that is too narrow times lose year and seconds, the last columns are left out, and the last one that
    is shown is cut off. A pipe or file gets it all.
    """
    rows = list(rows)
    _print_title(title)
    if title and not rows:
        # The title says that there are none.
        return
    cells = [[_line(value) for value in row] for row in (columns, *rows)]
    if out.is_terminal and _width(cells) > out.width:
        cells = [[_line(value, short=True) for value in row] for row in (columns, *rows)]
        while len(cells[0]) > 1 and _width(cells) > out.width and _width(cells, SHORTEST) > out.width:
            cells = [row[:-1] for row in cells]
    _print_lines(cells)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, fit: bool = False) -> None:
    """Print rows of sentences under a heading; text is taken as it is, brackets and all, and none of it is cut off.

    On a terminal no word is broken: where the columns do not fit, each row is printed as a record, a column a line.
    A pipe or file gets one line a row; with `fit`, what a terminal gets, as wide as COLUMNS says, or 80.
    """
    rows = list(rows)
    if not _print_columns(columns, rows, fit=fit):
        for row in rows:
            out.print()
            _print_record(zip(columns, row, strict=True))
        out.print()


def print_pairs(pairs: Mapping[str, Any], *, title: str) -> None:
    """Print names and values, one pair a line."""
    _print_title(title)
    if not _print_columns(("field", "value"), list(pairs.items())):
        _print_record(pairs.items())


def _print_title(title: str | None) -> None:
    if title:
        out.print(Text(one_line(title), "bold"), soft_wrap=True)


def _print_columns(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, fit: bool = False) -> bool:
    """Print rows in columns, or return False where these do not fit on the terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not (out.is_terminal or fit):
        _print_lines([list(columns), *([" ".join(cell.plain.split("\n")) for cell in row] for row in cells)])
        return True
    widths = _widths(columns, cells)
    if widths is None:
        return False
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width)
    for row in cells:
        table.add_row(*row)
    out.print(table, crop=False)
    return True


def _print_record(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, a pair a line, wrapped between words."""
    for name, value in pairs:
        label = (f"{name}: " if name else "", "dim")
        line = Text.assemble(label, Text(" ").join(_cell(value).split("\n")))
        # A line break inside of a word would be copied with it: the terminal wraps such a line, and remembers that.
        out.print(line, soft_wrap=_longest_word(line.plain) > out.width)


def _widths(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> list[int] | None:
    """Return the columns' widths on this terminal; None if they do not fit with the longest word of each unbroken."""
    natural, needed = [], []
    for index, column in enumerate(columns):
        texts = [column, *(row[index].plain for row in cells)]
        natural.append(max(cell_len(line) for text in texts for line in text.split("\n")))
        needed.append(max(map(_longest_word, texts)))
    # Two spaces of padding and a divider.
    spare = out.width - 3 * len(columns) - sum(needed)
    if spare < 0:
        return None
    # Columns that fit unfolded come first; the rest of the room is for those that are folded anyway.
    waiting = sorted(range(len(columns)), key=lambda index: natural[index] - needed[index])
    for place, index in enumerate(waiting):
        more = max(min(natural[index] - needed[index], spare // (len(waiting) - place)), 0)
        needed[index] += more
        spare -= more
    return needed


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _column_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _width(lines: Sequence[Sequence[str]], last: int | None = None) -> int:
    """Return how wide the lines are printed, with so much of the last column at most."""
    *widths, end = _column_widths(lines)
    return sum(width + 2 for width in widths) + min(end, last or end)


def _print_lines(lines: Sequence[Sequence[str]]) -> None:
    """Print lines, their columns aligned; a terminal gets what is as wide as it is."""
    widths = _column_widths(lines)
    for line in lines:
        padded = (text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True))
        printed = Text("  ".join(padded).rstrip())
        if out.is_terminal:
            printed.truncate(out.width, overflow="ellipsis")
        out.out(printed.plain, highlight=False)


def _line(value: Any, *, short: bool = False) -> str:
    """Return a value of a list as one line; `short` leaves out year and seconds of a time."""
    if isinstance(value, datetime):
        whole = str(utc(value))
        return whole[5:16] if short else whole
    return " ".join(_cell(value).plain.split("\n"))


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    if value is None:
        return Text()
    if isinstance(value, list):
        shown = one_line(", ".join(map(str, value[:SHOWN_ITEMS])))
        return Text(shown if len(value) <= SHOWN_ITEMS else f"{shown}, … ({len(value):,} in all)")
    # Stored text may hold sequences that command a terminal.
    return Text("\n".join(map(one_line, str(value).replace(CONTINUED, " ").split("\n"))))
