"""The pictures of README and docs/benchmarks.md, made from what is recorded."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers.environment import ROOT
from bench.peers.recorded import Recorded, Rows
from bench.peers.registry import OURS

FOLDER = ROOT / "docs" / "images"
OURS_COLOR, OTHERS_COLOR = "#0969da", "#8c959f"
#: Texts stay texts, names inside the file do not change: the same figures give the same file.
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "pattern-storage", "font.size": 11}

#: Of each bar chart: part, metrics (the second in a lighter color), whether less is better, title.
BARS = {
    "bench-jobs.svg": ("jobs", ("jobs_per_second",), False, "Jobs a second, two worker processes"),
    "bench-enqueue.svg": (
        "enqueue",
        ("enqueue_per_second", "enqueue_many_per_second"),
        False,
        "Enqueued a second: one by one, lighter in bulk",
    ),
    "bench-latency.svg": (
        "latency",
        ("low_ms:50", "same_ms:50"),
        True,
        "Milliseconds to the result, median: alone, lighter beside 500 jobs a second",
    ),
}
LINES = {
    "bench-processes.svg": ("processes", "Jobs a second, by worker processes"),
    "bench-rows.svg": ("rows", "Jobs a second, by patterns already in the table"),
    "bench-queued.svg": ("queued", "Jobs a second, by jobs in the queue"),
    "bench-batches.svg": ("batches", "Rows a second, by rows in a batch"),
}
#: Of the batches, which only we have, the metric of each line.
OF_BATCHES = {OURS.name: "rows_per_second", "raw COPY": "copy_rows_per_second"}


def write(recorded: Recorded, folder: Path = FOLDER) -> list[Path]:
    """Draw what there are figures for, and return the files."""
    made = []
    with mpl.rc_context(STYLE):
        for name, (part, metrics, less, title) in BARS.items():
            if rows := recorded.parts.get(part):
                figure, axes = _figure(title, height=0.6 + 0.17 * len(rows) * (1 + len(metrics)))
                _bars(axes, rows, metrics, less=less)
                made.append(_save(figure, folder / name))
        for name, (part, title) in LINES.items():
            if rows := recorded.parts.get(part):
                figure, axes = _figure(title, height=3.0)
                _lines(axes, rows)
                made.append(_save(figure, folder / name))
    return made


def _figure(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bars(axes: Axes, rows: Rows, metrics: Sequence[str], *, less: bool) -> None:
    """One bar a peer and metric, the best peer at the top, lines for the spread."""
    names = sorted(rows, key=lambda name: rows[name][metrics[0]].median, reverse=less)
    thick = 0.8 / len(metrics)
    for number, metric in enumerate(metrics):
        values = [rows[name][metric] for name in names]
        bars = axes.barh(
            [place - number * thick for place in range(len(names))],
            [value.median for value in values],
            thick,
            xerr=[value.median * value.spread for value in values],
            ecolor="#57606a",
            color=[_color(name) for name in names],
            alpha=1 - 0.45 * number,
        )
        digits = 1 if less else 0
        labels = ["" if math.isnan(value.median) else f"{value.median:,.{digits}f}" for value in values]
        axes.bar_label(bars, labels=labels, padding=4, fontsize=9)
    axes.set_yticks([place - thick * (len(metrics) - 1) / 2 for place in range(len(names))], names)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.12, y=0.02)
    axes.set_xlim(left=0)


def _lines(axes: Axes, rows: Rows) -> None:
    """One line a peer, sizes side by side."""
    series: dict[str, list[tuple[str, float]]] = {}
    for row, values in rows.items():
        peer, _, size = row.partition(", ")
        if size:
            series.setdefault(peer, []).append((size, values["jobs_per_second"].median))
            continue
        for name, metric in OF_BATCHES.items():
            series.setdefault(name, []).append((row, values[metric].median))
    for peer, points in series.items():
        sizes, medians = zip(*points, strict=True)
        axes.plot(sizes, medians, marker="o", color=_color(peer), alpha=1 if _color(peer) == OURS_COLOR else 0.8)
    axes.set_ylim(bottom=0)
    ends = {peer: points[-1][1] for peer, points in series.items()}
    for peer, height in zip(ends, _apart(list(ends.values()), axes.get_ylim()[1] / 15), strict=True):
        axes.annotate(peer, (len(series[peer]) - 1, height), xytext=(6, -4), textcoords="offset points", fontsize=9)
    axes.margins(x=0.2)


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights of labels, in the same order: those that are nearer than a gap to the one below are moved up."""
    moved: dict[int, float] = {}
    below = -math.inf
    for place in sorted(range(len(heights)), key=heights.__getitem__):
        below = moved[place] = max(heights[place], below + gap)
    return [moved[place] for place in range(len(heights))]


def _color(name: str) -> str:
    return OURS_COLOR if name.startswith(OURS.name) else OTHERS_COLOR


def _save(figure: Figure, file: Path) -> Path:
    # On a page with a dark background a transparent one would hide the texts.
    figure.savefig(file, facecolor="white", metadata={"Date": None, "Creator": None})
    return file
