"""A whole system that can be restarted, people who log in to it, and what they see."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pattern_storage import PatternColumns, PatternStorageClient
from tests.fix_browser import DEADLINE
from tests.fix_cli import make_home
from tests.fix_flower import PASSWORD
from tests.fix_process import free_port
from tests.fix_up import Up

LOGINS = {
    "viewer": ("vera", "viewer-password"), "operator": ("otto", "operator-password"), "admin": ("admin", PASSWORD),
}  # fmt: skip


SIZE = {"width": 1_440, "height": 900}


#: Rows of an import that takes long enough to be watched and stopped.
ROWS = 1_000_000


#: Replaces one text by another in all of a page.
RENAME = """([old, plain]) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(old, plain);
}"""


class Station:
    """A running system that can be stopped and started again, with its data and on the same port."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.start()

    def start(self) -> None:
        """Start everything."""
        user = LOGINS
        variables: dict[str, Any] = {
            "PATTERN_STORAGE_FLOWER_PASSWORD": PASSWORD,
            "PATTERN_STORAGE_FLOWER_VIEWERS": ":".join(user["viewer"]),
            "PATTERN_STORAGE_FLOWER_OPERATORS": ":".join(user["operator"]),
            "PATTERN_STORAGE_IMPORTS_FILE": str(self.home / "imports.toml"),
            "PATTERN_STORAGE_MAX_ATTEMPTS": "2",
            "PATTERN_STORAGE_RETRY_BACKOFF": "0",
            "PATTERN_STORAGE_LOCK_TIMEOUT": "0.3",
        }
        self.up = Up(self.home / "data", "--flower-port", str(self.port), flower=True, **variables)
        self.up.ready()
        state = self.up.state
        self.client = PatternStorageClient(redis_url=state.redis_url, database_url=state.database_url)

    def stop(self) -> None:
        """Stop everything."""
        self.client.close()
        self.up.end()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def pattern(name: str) -> PatternColumns:
    return {
        "pattern_name": name, "pattern_type": "function", "language": "python",
        "template_code": "async def a_template_that_no_page_shows(): ...",
    }  # fmt: skip


@pytest.fixture(scope="module")
def station() -> Iterator[Station]:
    """The system, with jobs of every kind."""
    home = make_home()
    rows = home / "patterns.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            file.write(json.dumps(pattern(f"imported {number}")) + "\n")
    rows.chmod(0o644)
    (home / "imports.toml").write_text(
        f'[[import]]\nname = "catalogue"\nsource = "{rows}"\nschedule = "30 2 * * *"\non_conflict = "skip"\n'
        '[[import]]\nname = "missing"\nsource = "nowhere.csv"\nschedule = "0 4 * * 1"\n'
    )
    running = Station(home)
    try:
        client = running.client
        for name in ("asyncio.tasks.gather", "asyncio.locks.Semaphore", "heapq.merge", "heapq.nsmallest"):
            assert client.insert(pattern(name)).result(timeout=60).success
        assert not client.insert(pattern("heapq.merge")).result(timeout=60).success
        client.query(name_contains="heapq").result(timeout=60)
        with psycopg.connect(running.up.state.database_url) as open_transaction:
            for number in range(8):
                values = [f"asyncio.queues.Queue.{number}", "function", "python", "x"]
                open_transaction.execute(
                    "INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code)"
                    " VALUES (%s, %s, %s, %s)",
                    values,
                )
            jobs = [client.insert(pattern(f"asyncio.queues.Queue.{number}")) for number in range(8)]
            for job in jobs:
                assert job.result(timeout=120).metadata["dead_letter"]
            open_transaction.rollback()
        yield running
    finally:
        running.stop()
        shutil.rmtree(home)


@pytest.fixture
def person(chromium: Any, station: Station) -> Iterator[Callable[..., Any]]:
    """Log in as somebody and return their page."""
    contexts = []
    errors: list[str] = []

    def log_in(who: str, **options: Any) -> Any:
        user, password = LOGINS[who]
        context = chromium.new_context(
            viewport=SIZE, color_scheme="light", locale="en-GB", timezone_id="UTC", base_url=station.address,
            http_credentials={"username": user, "password": password}, **options,
        )  # fmt: skip
        context.set_default_timeout(DEADLINE)
        contexts.append(context)
        page = context.new_page()

        def note(error: Any) -> None:
            # Bootstrap stumbles over a press of a key while a page goes; it is Flower's.
            if "bootstrap" not in str(error.stack):
                errors.append(f"{error} {error.stack}")

        page.on("pageerror", note)
        page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
        return page

    yield log_in
    for context in contexts:
        context.close()
    assert errors == []


def confirm(page: Any, question: str, verb: str) -> None:
    """Answer the question that a button has led to."""
    # A page that is still coming has a heading without text.
    page.get_by_role("heading", level=1, name=re.compile(question)).wait_for()
    page.get_by_role("button", name=verb, exact=True).click()
    page.get_by_role("status").filter(has_text="Done:").wait_for()


def fits(page: Any) -> None:
    """See that nothing of a page is beyond its right edge."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, page.url


CONTRAST = """element => {
    const parts = text => text.match(/[\\d.]+/g).map(Number);
    const light = rgb => rgb.slice(0, 3).map(part => part / 255)
        .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    let behind = element;
    const ground = () => parts(getComputedStyle(behind).backgroundColor);
    while (behind.parentElement && ground()[3] === 0) behind = behind.parentElement;
    const [less, more] = [parts(getComputedStyle(element).color), ground()].map(light).sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
}"""


def contrast(element: Any) -> float:
    """Contrast of an element's text with what is behind it, as WCAG has it."""
    return float(element.evaluate(CONTRAST))


def shoot(page: Any, pictures: Path, name: str, home: Path | None = None) -> None:
    """Take a picture of what a person sees; the temporary folder `home` has a plain name in it."""
    page.wait_for_load_state("networkidle")
    fits(page)
    if home is not None:
        page.evaluate(RENAME, [str(home), "/srv/patterns"])
    page.screenshot(path=pictures / f"flower-{name}.png")
