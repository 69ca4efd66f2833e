"""Progress bars, on standard error and only on a terminal: of an import, and of any count."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

from rich.progress import BarColumn, Progress, TextColumn

from pattern_storage.tasks.cli.output import err


class ProgressBar:
    """A bar on standard error: part done, rows, rows a second, and the time left where that can be told."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"))
        self._bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task("waiting", total=None, rows="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, about: dict[str, Any]) -> None:
        """Show the values of `Progress.to_dict`."""
        rows = f"{about['current']:,} rows, {about['rate']:,.0f} rows/s"
        if (left := about["seconds_left"]) is not None:
            rows += f", {timedelta(seconds=round(left))} left"
        total = None if about["percent"] is None else 100.0
        self._bar.update(
            self._task, description=about["phase"], total=total, completed=about["percent"] or 0.0, rows=rows
        )


@contextmanager
def counting(what: str, unit: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a count, of `total` where that is known; yields a function that is called with the count so far."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task(what, total=total, count="")

        def show(count: int) -> None:
            of = f" of {total:,}" if total is not None else ""
            bar.update(task, completed=count, count=f"{count:,}{of} {unit}")

        yield show
