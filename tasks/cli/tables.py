"""Tables for people: columns or records on a terminal, a line a row in a pipe."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from pattern_storage.storage.explanation import CONTINUED, one_line
from pattern_storage.tasks.cli.output import out

#: Elements of a list that are printed.
SHOWN_ITEMS = 3


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, fit: bool = False
) -> None:
    """Print rows under a heading; text is taken as it is, brackets and all, and none of it is ever cut off.

    On a terminal no word is broken: where the columns do not fit, each row is printed as a record, a column a line.
    A pipe or file gets one line a row; with `fit`, what a terminal gets, as wide as COLUMNS says, or 80.
    """
    rows = list(rows)
    _print_title(title)
    if title and not rows:
        # The title says that there are none.
        return
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
        _print_lines(columns, cells)
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


def _print_lines(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """Print one line a row, its columns aligned."""
    lines = [list(columns), *([" ".join(cell.plain.split("\n")) for cell in row] for row in cells)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True))
        out.out("  ".join(padded).rstrip(), highlight=False)


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
