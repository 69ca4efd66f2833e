"""`demo`: the main job end to end on servers of its own, which are gone afterwards, however it ends."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fix_cli import names_in
from tests.fix_process import wait_until
from tests.fix_up import Running

#: Servers of the user's own, which the demo must leave alone.
ELSEWHERE: dict[str, Any] = {
    "DATABASE_URL": "postgresql://127.0.0.1:1/x",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "BROKER_URL": "redis://127.0.0.1:1/1",
    "RESULT_BACKEND_URL": "redis://127.0.0.1:1/2",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/3",
    "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/4",
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/5",
}


@pytest.fixture
def temporary(home: Path) -> Path:
    """Where the demo puts its folder."""
    (home / "tmp").mkdir(0o711)
    return home / "tmp"


@pytest.fixture
def demo(request: pytest.FixtureRequest, home: Path, temporary: Path) -> Iterator[Running]:
    patterns = getattr(request, "param", "1100")
    running = Running(
        "demo", "--patterns", patterns, "--workers", "1", log=home / "demo.log", TMPDIR=str(temporary), **ELSEWHERE
    )
    yield running
    running.end()


def test_it_shows_everything_and_leaves_nothing(demo: Running, temporary: Path) -> None:
    demo.wait_for("are up after")
    assert list(temporary.glob("pattern-storage-demo-*"))
    assert demo.wait() == 0, demo.text
    demo.leaves_nothing()
    assert names_in(temporary) == []
    text = demo.text
    assert "Traceback" not in text
    assert "WRONG" not in text
    assert "1100/1100" in text
    assert len(re.findall(r"^ *ok ", text, re.MULTILINE)) == 11
    # Every step has the whole id under which its result was read.
    assert len(set(re.findall(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", text))) >= 11
    # As wide as a terminal of 80 columns, in a file too.
    assert max(map(len, text.partition("Each result was read back")[2].splitlines())) <= 80
    flat = " ".join(text.split())
    for said in ("1,100", "3 atomic batches committed", "Pattern already exists", "Batch insert failed at pattern 7",
                 "Pattern not found", "changed confidence_score,", "removed", "worker", "total"):  # fmt: skip
        assert said in flat, said
    # Two times for each step: in the worker, and until its result was read.
    assert len(re.findall(r"^ *ok .* [\d,]+\.\d +[\d,]+\.\d *$", text, re.MULTILINE)) == 11


# So many that it is not done before the signal comes.
@pytest.mark.parametrize("demo", ["20000"], indirect=True)
def test_ctrl_c_in_the_middle(demo: Running, temporary: Path) -> None:
    demo.wait_for("are up after")
    demo.signal(signal.SIGINT)
    assert demo.wait() != 0
    demo.leaves_nothing()
    assert names_in(temporary) == []
    assert "Traceback" not in demo.text


def test_sigterm_while_it_starts(demo: Running, temporary: Path) -> None:
    wait_until(lambda: list(temporary.glob("*/data/postgres")), "PostgreSQL is being created")
    demo.remember()
    demo.signal(signal.SIGTERM)
    assert demo.wait() not in (0, -signal.SIGTERM)
    demo.remember_more()
    assert names_in(temporary) == []
    assert "Traceback" not in demo.text
