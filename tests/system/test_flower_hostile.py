"""Two hundred hostile values in every field that a page shows, and in every filter: none becomes markup or an error."""

import itertools
import json
from html.parser import HTMLParser
from typing import Any, LiteralString
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from tests.fix_pages import Pages, Visitor

COUNT = 200
PAYLOADS = (
    "<x-evil>", '"><x-evil>', "'><x-evil>", "<script>evil()</script>", "</script><x-evil>", "</title><x-evil>",
    '" onmouseover="evil()', "' onfocus='evil()' autofocus='", "<svg/onload=evil()>", "<img src=x onerror=evil()>",
    "<iframe srcdoc='<x-evil>'>", "javascript:evil()", "data:text/html,<x-evil>", "<!-- <x-evil>", "--><x-evil>",
    "]]><x-evil>", "&lt;x-evil&gt;", "&#60;x-evil&#62;", "{{ 7 * 7777 }}", "{% raw '<x-evil>' %}", "{% import os %}",
    "${7 * 7777}", "%(id)s", "%s%s%n", "'; DROP TABLE job_ledger; --", "\\", "\\'", "$$;$$",
    "a\nb\r\nSet-Cookie: evil=1",
    "\x1b[2J\x1b]0;evil\x07", "\u202eevil\u202c", "\u200b\ufeff", "é̀" * 40, "🧨" * 30, "\U0001d522vil",
    "../../etc/passwd",
    "%00", "%", "?x=1&y=2#z", ";a=b", "NaN", "1e999", "-1", "9" * 40, "null", "[]", "x" * 250, " lead and trail ", "<b",
    ">",
)  # fmt: skip
AROUND = ("{}", "a{}", "{}z", "\u00e4{}<")
VALUES = tuple(
    itertools.islice((around.format(payload) for around in AROUND for payload in PAYLOADS), COUNT)
)  # fmt: skip
PLANT: tuple[LiteralString, ...] = (
    """INSERT INTO job_ledger (correlation_id, result, state, operation, pattern_name, error_type, queue, worker,
                               attempts, sent_at, duration_ms, finished_at, errors)
       VALUES (%(job)s, %(result)s, 'FAILURE', %(text)s, %(text)s, %(text)s, %(text)s, %(text)s, 1,
               now() - interval '1 min', 5, now(), %(errors)s)""",
    """INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, operation,
                                 pattern_name, queue)
       VALUES (gen_random_uuid(), %(contract)s, %(text)s, %(text)s, 5, now(), %(text)s, %(text)s, %(text)s)""",
    """INSERT INTO import_runs (run_id, name, plan, state, queued_at, started_at, finished_at, source_version,
                                error_type, error)
       VALUES (%(run)s, %(name)s, %(source)s, 'failed', now(), now(), now(), %(text)s, %(text)s, %(text)s)""",
    """INSERT INTO job_attempts (correlation_id, deliveries, operation, pattern_name, queue, errors)
       VALUES (gen_random_uuid(), 1, %(text)s, %(text)s, %(text)s, %(errors)s)""",
    """INSERT INTO pattern_templates (id, pattern_name, pattern_type, language, category, template_code, description,
                                      source, created_by, tags)
       VALUES (%(job)s, %(text)s, left(%(text)s, 100), left(%(text)s, 50), %(text)s, 'c', %(text)s, %(text)s, %(text)s,
               ARRAY[%(text)s])""",
    "INSERT INTO audit_log (actor, action, filter, count) VALUES (%(text)s, %(text)s, %(filter)s, 1)",
    "INSERT INTO pauses VALUES ('import', %(name)s, now(), %(text)s)",
)
#: Attributes that lead somewhere, and where ours and Flower's lead.
LINKS = {"href", "src", "action"}
OURS = ("/", "#", "?", "https://flower.readthedocs.io/", "https://github.com/mher/")


class Reader(HTMLParser):
    """Finds markup that is none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.evil: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "x-evil" or (tag in {"iframe", "img"} and not (given.get("src") or "").startswith("/static/")):
            self.evil.append(tag)
        if tag == "script" and not (given.get("src") or "").startswith(("/static/", "/pages/static/")):
            self.evil.append("script")
        self.evil += [f"{tag} {name}" for name in given if name.startswith("on")]
        for name in LINKS & given.keys():
            if not (given[name] or "").startswith(
                ("/", "#", "?", "https://flower.readthedocs.io/", "https://github.com/mher/")
            ):
                self.evil.append(f"{tag} {name}={given[name]}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(visitor: Visitor, path: str) -> tuple[int, str]:
    """Get a page, look for markup that is none of ours, and return its text."""
    answer = visitor.get(path)
    assert answer.status in {200, 302, 400, 404, 409}, (path, answer.status)
    reader = Reader()
    reader.feed(answer.text if answer.status != 302 else "")
    assert reader.evil == [], path
    text = "".join(reader.text)
    # No template of anybody else's was run.
    assert "54439" not in text, path
    return answer.status, text


@pytest.fixture(scope="module")
def planted(pages: Pages) -> dict[str, UUID]:
    """Rows and messages that have such values wherever a text may stand."""
    assert len(set(VALUES)) == COUNT
    jobs, runs = [uuid4() for _ in VALUES], [uuid4() for _ in VALUES]
    result, error = {"success": False, "data": {}}, {"at": "2026-03-01T11:00:00+00:00"}
    rows = [
        {
            "job": job, "run": run, "text": text, "name": text.replace(" ", "_"),
            "source": json.dumps({"source": text}),
            "result": json.dumps(result | {"error": text, "metadata": {"error_type": text}}),
            "errors": json.dumps([error | {"error_type": text, "error": text, "worker": text}]),
            "contract": json.dumps({"operation": text, "data": {"pattern_name": text, "pattern_type": text}}),
            "filter": json.dumps({text: text}),
        }
        for job, run, text in zip(jobs, runs, VALUES, strict=True)
    ]  # fmt: skip
    with psycopg.connect(pages.database_url) as connection, connection.cursor() as cursor:
        for statement in PLANT:
            cursor.executemany(statement, rows)
        cursor.execute("INSERT INTO pauses VALUES ('queue', 'storage', now(), %s)", [VALUES[1]])
    found = {"job": jobs[0], "run": runs[0]}
    headers = [{"id": value, "task": value, "argsrepr": value, "sent_at": value, "eta": value} for value in VALUES]
    with redis.Redis.from_url(pages.redis_url) as server:
        server.rpush(
            "storage", *(json.dumps({"headers": each, "body": each["id"]}) for each in headers), b"\xff<x-evil>"
        )
        server.set(
            f"celery-task-meta-{found['run']}", json.dumps({"status": "PROGRESS", "result": {"phase": VALUES[0]}})
        )
    return found


def test_every_page_shows_them_as_text(pages: Pages, planted: dict[str, UUID]) -> None:
    admin = pages.visitor("admin")
    text = ""
    for path in ("/overview", "/jobs", "/jobs?order=oldest", "/jobs?order=longest", "/jobs?state=QUEUED",
                 "/dead-letters", "/imports", "/queues", "/queues/of/storage", "/queues/of/storage?from=50",
                 "/queues/of/storage?from=150", "/audit", "/audit?before=101", "/tasks", f"/jobs/{planted['job']}",
                 "/patterns", f"/patterns/{planted['job']}", "/jobs?state=RETRY", "/dead-letters?since=2020-01-01",
                 f"/imports/runs/{planted['run']}", "/jobs/cancel?state=FAILURE", "/dead-letters/discard"):  # fmt: skip
        status, shown = read(admin, path)
        assert status == 200, path
        text += shown
    assert "<x-evil>" in text
    assert "<script>evil()</script>" in text


def test_every_filter_takes_them_as_text(pages: Pages, planted: dict[str, UUID]) -> None:
    """Each value in the filters that take any text, and in turn in those that take one of a few, and in paths."""
    admin = pages.visitor("admin")
    picky = itertools.cycle((
        "/jobs?state={}", "/jobs?operation={}", "/jobs?error_type={}", "/jobs?id={}", "/jobs?since={}",
        "/jobs?order={}",
        "/jobs?after={}", "/overview?span={}", "/dead-letters?id={}", "/dead-letters?until={}", "/audit?before={}",
        "/jobs/{}", "/imports/runs/{}", "/queues/of/{}", "/queues/of/storage?from={}", "/jobs?did={}&count={}",
        "/jobs/cancel?name={}", "/imports/run?name={}", "/imports/pause?name={}", "/imports/stop?id={}",
        "/queues/purge?name={}", "/queues/pause?name={}", "/patterns/{}", "/patterns?since={}", "/patterns?after_id={}",
        "/dead-letters?operation={}", "/dead-letters/replay?reason={}", "/jobs?id={}", "/task/{}",
    ))  # fmt: skip
    for value in VALUES:
        for path, names in (
            ("/jobs", ("name", "queue")), ("/dead-letters", ("error_type", "reason", "name")), ("/patterns", ("name",)),
            ("/audit", ("actor", "action")),
        ):  # fmt: skip
            status, _ = read(admin, f"{path}?{urlencode(dict.fromkeys(names, value))}")
            assert status == 200, (path, value)
        status, _ = read(admin, f"/imports/history?{urlencode({'name': value.replace(' ', '_')})}")
        assert status in {200, 404}
        read(admin, next(picky).replace("{}", quote(value, safe="")))


def test_a_post_of_them_changes_nothing(pages: Pages, planted: dict[str, UUID]) -> None:
    def counts() -> list[Any]:
        return [pages.execute(f"SELECT count(*) FROM {table}")[0][0] for table in
                ("job_ledger", "dead_letters", "import_runs", "pauses", "job_retries", "audit_log")]  # fmt: skip

    before, viewer, operator = counts(), pages.visitor("viewer"), pages.visitor("operator")
    for value in VALUES[::5]:
        fields = dict.fromkeys(("id", "name", "reason", "state"), value)
        for path in ("/jobs/cancel", "/dead-letters/replay", "/imports/stop", "/queues/pause"):
            assert viewer.post(path, True, None, **fields).status == 403
            assert operator.post(path, True, None, **fields).status in {400, 404}, (path, value)
    assert counts() == before
