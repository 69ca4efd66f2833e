"""docs/benchmarks.md: the parts of it that are made from what is recorded, each between two markers."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.peers.environment import ROOT
from bench.peers.recorded import Recorded, Rows, ratios
from bench.peers.registry import OURS, PEERS
from bench.peers.results import PARTS, Column, Value

FILE = ROOT / "docs" / "benchmarks.md"


def text_table(part: str, rows: Rows) -> str:
    """Return a part's medians with their spread for a terminal."""
    table = [["", *(column.title for column in PARTS[part])]]
    table += [[row, *(_shown(values, column) for column in PARTS[part])] for row, values in rows.items()]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in table)
    return "\n".join("  ".join([row[0].strip().ljust(widths[0]), *row[1:]]) for row in lines)


def write(recorded: Recorded, file: Path = FILE) -> None:
    """Put everything between its markers. Raises ValueError for a marker that is missing."""
    made = {part: _part(part, recorded) for part in recorded.parts}
    made["ratios"] = _markdown(["ours against", "times better"], _ratio_rows(recorded))
    made["peers"] = _markdown(["", "settings", "worker", "versions"], _peer_rows(recorded))
    made["servers"] = ", ".join(f"{name} {value}" for name, value in recorded.servers.items()) + "."
    text = file.read_text(encoding="utf-8")
    for name, content in made.items():
        marked = re.compile(f"(<!-- bench: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, number = marked.subn(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)  # type: ignore[misc]
        if number != 1:
            raise ValueError(f"{file} has {number} places marked '<!-- bench: {name} -->', not one")
    file.write_text(text, encoding="utf-8")


def _part(part: str, recorded: Recorded) -> str:
    rows = recorded.parts[part]
    table = _markdown(
        ["", *(column.title for column in PARTS[part])],
        (
            [f"**{row}**" if row.startswith(OURS.name) else row, *(_shown(values, column) for column in PARTS[part])]
            for row, values in rows.items()
        ),
    )
    return f"{table}\n\n{recorded.conditions[part]}"


def _ratio_rows(recorded: Recorded) -> Iterable[Sequence[str]]:
    return ([name, f"{value:.2f}"] for name, value in ratios(recorded.parts).items())


def _peer_rows(recorded: Recorded) -> Iterable[Sequence[str]]:
    for name, versions in recorded.versions.items():
        peer = PEERS[name]
        shown = ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
        yield [name, peer.settings, f"`{peer.worker}`", shown]


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---", *("---:" for _ in titles[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _shown(values: dict[str, Value], column: Column) -> str:
    value = values[column.metric]
    return "" if math.isnan(value.median) else f"{value.median:,.{column.digits}f} ±{value.spread:.0%}"
