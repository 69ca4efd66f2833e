"""Progress bars: on a terminal they say how many of how many, anywhere else nothing."""

import io

import pytest
from rich.console import Console

from pattern_storage.tasks.cli import progress


@pytest.mark.parametrize(("total", "shown"), [(None, "1,200 patterns"), (2_000, "1,200 of 2,000 patterns")])
def test_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch, total: int | None, shown: str) -> None:
    for is_terminal in (True, False):
        written = io.StringIO()
        monkeypatch.setattr(progress, "err", Console(file=written, force_terminal=is_terminal, width=100))
        with progress.counting("storing", "patterns", total) as show:
            show(1_200)
        assert (shown in written.getvalue()) == is_terminal
