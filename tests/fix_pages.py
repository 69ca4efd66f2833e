"""Our pages in Flower as people with different logins see them: one Flower for a module, and no worker."""

import base64
import html
import http.cookiejar
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_flower import PASSWORD, Answer, Flower, GivenServers
from tests.fix_storage import make_pattern

LOGINS = {
    "admin": f"admin:{PASSWORD}",
    "viewer": "vera:viewer-password",
    "operator": "otto:operator-password",
    "other operator": "olga:0perator-password",
}

TEMPLATE = "def a_template_that_no_page_shows(): ..."

ENDED = """
    INSERT INTO job_ledger (correlation_id, result, state, operation, pattern_name, error_type, queue, worker, attempts,
                            sent_at, duration_ms, finished_at, errors, contract)
    VALUES (%(id)s, %(result)s, %(state)s, %(operation)s, %(name)s, %(error_type)s, %(queue)s, 'celery@w', %(attempts)s,
            %(at)s::timestamptz - interval '3 seconds', %(duration)s, %(at)s, %(errors)s, %(contract)s)
"""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirections to whoever asks."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Visitor:
    """A browser of somebody with a login: keeps cookies, and sends the forms that a page has."""

    def __init__(self, address: str, login: str) -> None:
        self.address = address
        self._headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        self._cookies = http.cookiejar.CookieJar()
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies), NoRedirect()
        ).open

    def get(self, path: str, **query: Any) -> Answer:
        return self._ask(f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, /, token: bool = True, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """Post fields, with the token of Tornado's cookie as a form of the site has it."""
        if token:
            if not list(self._cookies):
                self.get("/workers")
            fields |= {"_xsrf": next(cookie.value for cookie in self._cookies if cookie.name == "_xsrf")}
        return self._ask(path, urlencode(fields).encode(), headers)

    def submit(self, path: str, **query: Any) -> Answer:
        """Open a page that asks for confirmation, press its button, and return the page that is shown then."""
        asked = self.get(path, **query)
        assert asked.status == 200, asked.text
        fields = {
            html.unescape(name): html.unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', asked.text)
        }
        action = re.search(r'<form method="post" action="([^"]*)"', asked.text)
        assert action
        done = self.post(html.unescape(action[1]), True, None, **fields)
        assert done.status == 303, done.text
        return self.get(done.text)

    def _ask(self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        request = urllib.request.Request(f"{self.address}{path}", data=data, headers=self._headers | (headers or {}))
        try:
            with self._open(request, timeout=60) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                # Of a redirection it matters where to.
                return Answer(error.code, error.headers.get("Location") or error.read().decode())


@dataclass(frozen=True)
class Pages:
    """A Flower with logins of every role on servers of its own."""

    flower: Flower
    database_url: str
    redis_url: str
    imports_file: Path

    def visitor(self, who: str) -> Visitor:
        return Visitor(f"http://127.0.0.1:{self.flower.port}", LOGINS[who])

    def execute(self, statement: Any, *values: Any) -> list[Any]:
        """Execute a statement; return its rows."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def empty(self, *tables: str) -> None:
        """Delete all rows. TRUNCATE would wait for pages that read the tables, and they for it."""
        for table in tables:
            self.execute(SQL("DELETE FROM {}").format(Identifier(table)))

    def execute_named(self, statement: Any, values: dict[str, Any]) -> None:
        """Execute a statement with named values."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement, values)


@pytest.fixture(scope="module")
def pages(shared_database_url: str, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One Flower for the tests of a module, on a database of its own."""
    with redis.Redis.from_url(valkey_url) as server:
        server.flushdb()
    folder = tmp_path_factory.mktemp("pages")
    imports = folder / "imports.toml"
    imports.write_text("")
    flower = Flower(
        GivenServers(shared_database_url, valkey_url), folder,
        PATTERN_STORAGE_FLOWER_VIEWERS=LOGINS["viewer"],
        PATTERN_STORAGE_FLOWER_OPERATORS=f"{LOGINS['operator']}\n{LOGINS['other operator']}",
        PATTERN_STORAGE_CONNECT_TIMEOUT="2",
        PATTERN_STORAGE_IMPORTS_FILE=str(imports),
    )  # fmt: skip
    yield Pages(flower.ready(), shared_database_url, valkey_url, imports)
    flower.group.discard()


@pytest.fixture
def clean_pages(pages: Pages) -> Iterator[None]:
    """Deletes all jobs and messages after a test."""
    yield
    pages.empty("job_ledger", "job_attempts", "dead_letters", "outbox", "job_retries", "audit_log", "pauses")
    with redis.Redis.from_url(pages.redis_url) as server:
        server.flushdb()


@pytest.fixture(scope="module")
def pages_client(pages: Pages) -> Iterator[PatternStorageClient]:
    """A client whose jobs the pages show."""
    with PatternStorageClient(redis_url=pages.redis_url, database_url=pages.database_url) as opened:
        yield opened


def end(pages: Pages, state: str = "SUCCESS", **given: Any) -> UUID:
    """Add a job that has ended."""
    job = uuid4()
    error = given.get("error")
    result = {"success": state == "SUCCESS", "data": {}, "error": error, "metadata": {"correlation_id": str(job)}}
    contract = {"correlation_id": str(job), "operation": "insert", "data": make_pattern(template_code=TEMPLATE)}
    values = {
        "operation": "insert", "name": None, "error_type": None, "queue": "storage", "attempts": 1, "duration": 500.0,
        "at": "2026-03-01T12:00:00+00:00", "errors": None,
    } | given  # fmt: skip
    values |= {"id": job, "state": state, "result": json.dumps(result), "contract": json.dumps(contract)}
    pages.execute_named(ENDED, values)
    return job


def before(**span: float) -> str:
    """A moment in the past."""
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def shown(pages: Pages, **query: str) -> list[UUID]:
    """The jobs of a page, in order."""
    page = pages.visitor("viewer").get("/jobs", **query)
    assert page.status == 200, page.text
    assert TEMPLATE not in page.text
    return [UUID(each) for each in re.findall(r'<code class="pages-id">([0-9a-f-]{36})</code>', page.text)]
