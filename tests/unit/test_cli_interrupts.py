"""An interrupt that arrives at the wrong moment is raised a moment later."""

import signal
import sys
import weakref
from importlib.abc import MetaPathFinder
from typing import Any

import pytest

from pattern_storage import __main__ as program
from pattern_storage.tasks.cli.interrupts import keep_interrupts
from tests.fix_process import wait_until


class Weakly:
    """Something to refer to weakly."""


def lose(error: type[BaseException]) -> None:
    """Raise an error where Python prints and forgets it."""

    def callback(reference: Any) -> None:
        raise error

    target = Weakly()
    reference = weakref.ref(target, callback)
    del target
    assert reference() is None


def test_a_lost_interrupt_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with keep_interrupts():
        lose(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            wait_until(lambda: False, "it is raised here")
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == before
    assert capsys.readouterr().err == ""


def test_nothing_comes_after_the_end() -> None:
    with keep_interrupts():
        lose(KeyboardInterrupt)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_other_errors_go_where_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda lost: seen.append(lost.exc_type))
    with keep_interrupts():
        lose(RuntimeError)
    assert seen == [RuntimeError]


def test_ctrl_c_while_the_program_is_imported_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pattern_storage.tasks.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pattern_storage.tasks.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 130
