"""docs/benchmarks.md: the parts of it that are made from what is recorded, each between two markers."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.peers.environment import ROOT
from bench.peers.recorded import Recorded, Rows, ratios
from bench.peers.registry import OURS, PEERS
from bench.peers.results import PARTS, Column, Value

FILE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"

#: The picture of each part that has one, and what it shows.
PICTURES = {
    "jobs": ("bench-jobs.svg", "Jobs a second of each queue"),
    "enqueue": ("bench-enqueue.svg", "Jobs enqueued a second with each queue"),
    "latency": ("bench-latency.svg", "Milliseconds from enqueue to result of each queue"),
    "processes": ("bench-processes.svg", "Jobs a second by worker processes"),
    "rows": ("bench-rows.svg", "Jobs a second by patterns in the table"),
    "queued": ("bench-queued.svg", "Jobs a second by jobs in the queue"),
    "batches": ("bench-batches.svg", "Rows a second by rows in a batch"),
}
#: Parts whose pictures README shows.
IN_README = ("jobs", "enqueue", "latency")


def text_table(part: str, rows: Rows) -> str:
    """Return a part's medians with their spread for a terminal."""
    table = [["", *(column.title for column in PARTS[part])]]
    table += [[row, *(_shown(values, column) for column in PARTS[part])] for row, values in rows.items()]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in table)
    return "\n".join("  ".join([row[0].strip().ljust(widths[0]), *row[1:]]) for row in lines)


def write(recorded: Recorded, file: Path = FILE, readme: Path = README) -> None:
    """Put everything between its markers, pictures into README. Raises ValueError for a marker that is missing."""
    made = {part: _part(part, recorded) for part in recorded.parts}
    made["ratios"] = _markdown(["ours against", "times better"], _ratio_rows(recorded))
    made["peers"] = _markdown(["", "settings", "worker", "versions"], _peer_rows(recorded), numbers=False)
    made["servers"] = ", ".join(f"{name} {value}" for name, value in recorded.servers.items()) + "."
    _fill(file, made)
    pictures = {part: PICTURES[part] for part in IN_README if part in recorded.parts}
    links = {part: f"[![{shown}](docs/images/{name})](docs/benchmarks.md)" for part, (name, shown) in pictures.items()}
    _fill(readme, links)


def _fill(file: Path, made: dict[str, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for name, content in made.items():
        before, begin, rest = text.partition(f"<!-- bench: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not begin or not end:
            raise ValueError(f"{file.name} has no place '<!-- bench: {name} -->' ... '<!-- end -->'")
        text = f"{before}{begin}{content}\n{end}{after}"
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
    name, shown = PICTURES[part]
    return f"![{shown}](images/{name})\n\n{table}\n\n{recorded.conditions[part]}"


def _ratio_rows(recorded: Recorded) -> Iterable[Sequence[str]]:
    return ([name, f"{value:.2f}"] for name, value in ratios(recorded.parts).items())


def _peer_rows(recorded: Recorded) -> Iterable[Sequence[str]]:
    for name, versions in recorded.versions.items():
        peer = PEERS[name]
        shown = ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
        yield [name, peer.settings, f"`{peer.worker}`", shown]


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    lines = [titles, ["---", *("---:" if numbers else "---" for _ in titles[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _shown(values: dict[str, Value], column: Column) -> str:
    value = values[column.metric]
    if math.isnan(value.median):
        return ""
    return f"{value.median:,.{column.digits}f}" + (f" ±{value.spread:.0%}" if value.spread else "")
