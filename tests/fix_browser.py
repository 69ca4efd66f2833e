"""A real browser: the installed Chromium, headless, driven by playwright. Tests skip where either is missing.

`make setup-browser` installs both; `BROWSER` names another program than the first Chromium on PATH.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
#: Wide enough for every column that matters.
SIZE = {"width": 1_960, "height": 900}
#: Pixels of a screenshot for each of the page's: README shows pictures smaller still.
SCALE = 0.75
#: Milliseconds for a page to do what is asked of it.
DEADLINE = 60_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; each start has an empty profile of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make setup-browser")
    program = os.environ.get("BROWSER") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium is installed: make setup-browser")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page of its own, without cookies or a login; an error in a script of the page fails the test."""
    context = chromium.new_context(
        viewport=SIZE, device_scale_factor=SCALE, color_scheme="light", locale="en-GB", timezone_id="UTC"
    )
    context.set_default_timeout(DEADLINE)
    errors: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: the folder that SCREENSHOTS names, or one that nobody keeps."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
