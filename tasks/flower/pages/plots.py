"""Plots as SVG, drawn by the server: the browser needs no script, and CSS gives both colour schemes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tornado.escape import xhtml_escape

#: Size in pixels of a card with a third of a page, so that texts keep their size there and on a phone.
WIDTH, HEIGHT = 420, 150
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 10, 22
SPARK_WIDTH, SPARK_HEIGHT = 120, 28

#: A plot has room for so many bars at least: two of them should not look like a wall.
FEWEST = 30

Format = Callable[[float], str]


@dataclass(frozen=True)
class Bar:
    """A bar of a plot: its height, its CSS class, its tooltip, and the page that a click opens."""

    value: float
    kind: str
    title: str
    href: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a plot; None where there is no value."""

    name: str
    values: Sequence[float | None]


def bars(data: Sequence[Bar], label: str, shown: Format) -> str:
    """Return the SVG of a plot of bars, the first at the left; `label` is its text for a screen reader."""
    most = max((bar.value for bar in data), default=0.0) or 1.0
    step = (WIDTH - LEFT - RIGHT) / max(len(data), FEWEST)
    parts = [_frame(most, shown)]
    for place, bar in enumerate(data):
        height = max((HEIGHT - TOP - BOTTOM) * bar.value / most, 2.0)
        x, y = LEFT + place * step, HEIGHT - BOTTOM - height
        drawn = (
            f'<rect class="bar {xhtml_escape(bar.kind)}" x="{x:.1f}" y="{y:.1f}" width="{max(step * 0.8, 1):.1f}"'
            f' height="{height:.1f}"><title>{xhtml_escape(bar.title)}</title></rect>'
        )
        parts.append(f'<a href="{xhtml_escape(bar.href)}">{drawn}</a>' if bar.href else drawn)
    return _svg("".join(parts), label)


def lines(data: Sequence[Line], label: str, shown: Format, ticks: Sequence[str]) -> str:
    """Return the SVG of a plot of lines over time; `ticks` are texts below it, from left to right."""
    values = [value for line in data for value in line.values if value is not None]
    most = max(values, default=0.0) or 1.0
    parts = [_frame(most, shown)]
    for place, tick in enumerate(ticks):
        x = LEFT + (WIDTH - LEFT - RIGHT) * place / max(len(ticks) - 1, 1)
        anchor = "start" if place == 0 else "end" if place == len(ticks) - 1 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{xhtml_escape(tick)}</text>')
    for number, line in enumerate(data, start=1):
        parts.append(f'<g class="line-{number}"><title>{xhtml_escape(line.name)}</title>')
        parts += [_drawn(points, number) for points in _runs(line.values, most)]
        parts.append("</g>")
    return _svg("".join(parts), label)


def sparkline(values: Sequence[float], label: str) -> str:
    """Return the SVG of a small plot without figures, for a cell of a table, with a text for a screen reader."""
    most = max(values, default=0.0) or 1.0
    step = SPARK_WIDTH / max(len(values) - 1, 1)
    points = " ".join(
        f"{place * step:.1f},{SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 3) * value / most:.1f}"
        for place, value in enumerate(values)
    )
    return (
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" role="img" aria-label="{xhtml_escape(label)}">'
        f'<title>{xhtml_escape(label)}</title><polyline class="line-1" points="{points}"/></svg>'
    )


def _drawn(points: str, number: int) -> str:
    """Return a stretch of values as a line, or a single value as a dot."""
    if " " in points:
        return f'<polyline class="line-{number}" points="{points}"/>'
    x, _, y = points.partition(",")
    return f'<circle class="dot-{number}" cx="{x}" cy="{y}" r="3"/>'


def _runs(values: Sequence[float | None], most: float) -> list[str]:
    """Return the points of each stretch of values without a gap."""
    step = (WIDTH - LEFT - RIGHT) / max(len(values) - 1, 1)
    found: list[str] = []
    points: list[str] = []
    for place, value in enumerate([*values, None]):
        if value is not None:
            x, y = LEFT + place * step, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most
            points.append(f"{x:.1f},{y:.1f}")
        elif points:
            found.append(" ".join(points))
            points = []
    return found


def _frame(most: float, shown: Format) -> str:
    """Return the grid of the plot: lines and figures at 0, half and all of the largest value."""
    parts = []
    for part in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        text = xhtml_escape(shown(most * part))
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _svg(inside: str, label: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{xhtml_escape(label)}">{inside}</svg>'
    )
