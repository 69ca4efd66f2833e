"""Pages of the jobs in Flower: found by each filter, a page at a time, each with its timeline and its pattern."""

import html
import json
import re
from uuid import uuid4

import pytest
import redis

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_pages import TEMPLATE, Pages, end, shown
from tests.fix_storage import make_pattern

pytestmark = pytest.mark.usefixtures("clean_pages")


def test_each_filter_finds_its_job(pages: Pages) -> None:
    plain = end(pages)
    failed = end(pages, "FAILURE", error_type="unique_violation", error="it's <b>there</b>", at="2026-03-01T12:01:00Z")
    named = end(pages, name="asyncio.gather", at="2026-03-01T12:02:00Z")
    batch = end(pages, operation="batch_insert", queue="batch", at="2026-03-01T12:03:00Z")
    late = end(pages, at="2026-03-02T12:00:00Z", duration=9_000.0)
    assert shown(pages) == [late, batch, named, failed, plain]
    assert shown(pages, order="oldest")[0] == plain
    assert shown(pages, order="longest")[0] == late
    for query, job in (
        ({"state": "FAILURE"}, failed), ({"error_type": "unique_violation"}, failed),
        ({"name": "asyncio.gather"}, named),
        ({"operation": "batch_insert"}, batch), ({"queue": "batch"}, batch), ({"since": "2026-03-02T00:00"}, late),
        ({"until": "2026-03-01T12:00:30"}, plain), ({"id": str(named)}, named),
        ({"state": "SUCCESS", "name": "asyncio.gather", "queue": "storage"}, named),
    ):  # fmt: skip
        assert shown(pages, **query) == [job], query
    page = pages.visitor("viewer").get("/jobs", state="FAILURE").text
    assert "it&#x27;s &lt;b&gt;there&lt;/b&gt;" in page or "it&#39;s &lt;b&gt;there&lt;/b&gt;" in page
    assert "No job matches" in pages.visitor("viewer").get("/jobs", name="nothing").text


def test_pages_follow_each_other(pages: Pages) -> None:
    for _ in range(60):
        end(pages)
    visitor = pages.visitor("viewer")
    first = visitor.get("/jobs").text
    [more] = re.findall(r'href="([^"]*)">More</a>', first)
    second = visitor.get(html.unescape(more)).text
    ids = [set(re.findall(r'<code class="pages-id">(\S+)</code>', text)) for text in (first, second)]
    assert [len(each) for each in ids] == [50, 10]
    assert len(ids[0] | ids[1]) == 60
    assert "60 jobs" in first


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"state": "GONE"}, "state"), ({"id": "x"}, "correlation_id"), ({"since": "then"}, "since"),
        ({"order": "up"}, "order"),
        ({"after": "x"}, "cursor"), ({"error_type": "unique_violaton"}, "did you mean"), ({"name": "x" * 256}, "name"),
    ],
)  # fmt: skip
def test_wrong_filters_are_said(pages: Pages, query: dict[str, str], says: str) -> None:
    answer = pages.visitor("viewer").get("/jobs", **query)
    assert (answer.status, says in html.unescape(answer.text)) == (400, True)


def test_the_page_of_a_job_has_its_timeline(pages: Pages) -> None:
    errors = [
        {"at": "2026-03-01T11:59:58+00:00", "error_type": "pool_timeout", "error": "no connection", "worker": "w1"}
    ]
    job = end(
        pages, "FAILURE", error_type="unique_violation", error="there is one", attempts=2, name="p <1>",
        errors=json.dumps(errors),
    )  # fmt: skip
    page = pages.visitor("viewer").get(f"/jobs/{job}").text
    assert TEMPLATE not in page
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert "insert p <1> FAILURE" in text
    assert "unique_violation: there is one" in text
    assert "Attempts 2" in text
    steps = re.findall(r"<li class=\"(?:good|bad|)\"><strong>([^<]*)</strong>", page)
    assert steps == ["submitted", "attempt failed", "started", "FAILURE"]
    assert "pool_timeout: no connection; on w1" in text


def test_a_job_that_only_the_broker_knows_has_a_page(pages: Pages) -> None:
    with PatternStorageClient(redis_url=pages.redis_url) as client:
        job = client.insert(make_pattern(pattern_name="unseen", template_code=TEMPLATE)).correlation_id
    page = pages.visitor("viewer").get(f"/jobs/{job}")
    assert "<h1>insert unseen (function/python)</h1>" in page.text
    assert "<strong>submitted</strong>" in page.text
    assert (page.status, ">QUEUED</span>" in page.text, TEMPLATE in page.text) == (200, True, False)
    unknown = pages.visitor("viewer").get(f"/jobs/{uuid4()}")
    assert (unknown.status, "Nothing is known under this id" in unknown.text) == (404, True)
    with redis.Redis.from_url(pages.redis_url) as server:
        # As of an application that sends the task itself, or of a job that has waited for longer than a day.
        assert server.delete(f"celery-task-meta-{job}") == 1
    page = pages.visitor("viewer").get(f"/jobs/{job}")
    assert (page.status, ">QUEUED</span>" in page.text) == (200, True)


def test_a_job_that_only_redis_can_know_while_it_refuses(pages: Pages) -> None:
    """It is not said to be forgotten; jobs that PostgreSQL knows are shown."""
    ended = end(pages)
    with redis.Redis.from_url(pages.redis_url) as server:
        server.execute_command("ACL SETUSER default -get -hscan")
        try:
            page = pages.visitor("viewer").get(f"/jobs/{uuid4()}")
            assert (page.status, "result backend" in page.text) == (503, True), page.text
            assert ">SUCCESS</span>" in pages.visitor("viewer").get(f"/jobs/{ended}").text
            assert shown(pages) == [ended]
            assert "missing here: the queue cannot be read" in pages.visitor("viewer").get("/jobs").text
        finally:
            server.execute_command("ACL SETUSER default +get +hscan")


def test_the_beginning_of_an_id_leads_to_its_job(pages: Pages) -> None:
    visitor, job = pages.visitor("viewer"), end(pages)
    page = visitor.get("/jobs").text
    assert page.count("<form") == 1
    assert visitor.get("/jobs", id=f" {str(job)[:8]} ").text == f"/jobs/{job}"
    assert visitor.get("/jobs", id=str(job)[:13].upper()).text == f"/jobs/{job}"
    unknown = visitor.get("/jobs", id=str(uuid4())[:8])
    assert (unknown.status, "No job that has begun" in unknown.text) == (404, True)
    assert shown(pages, id=str(job)) == [job]
    elsewhere = uuid4()
    assert visitor.get("/jobs", id=str(elsewhere)).text == f"/jobs/{elsewhere}"


def test_a_job_that_has_an_id_alone_shows_its_pattern(pages: Pages) -> None:
    there, gone, batch = uuid4(), uuid4(), uuid4()
    pages.execute(
        "INSERT INTO pattern_templates (id, pattern_name, pattern_type, language, template_code)"
        " VALUES (%s, 'heapq.nsmallest', 'function', 'python', %s)", there, TEMPLATE,
    )  # fmt: skip
    jobs = {}
    for pattern in (there, gone):
        job = jobs[pattern] = uuid4()
        contract = json.dumps({"correlation_id": str(job), "operation": "delete", "pattern_id": str(pattern)})
        pages.execute(
            "INSERT INTO outbox (correlation_id, contract, publish_after) VALUES (%s, %s, now() + interval '1 h')",
            job, contract,
        )  # fmt: skip
    result = {"success": True, "data": {"pattern_ids": ["x", "y"], "pattern_names": ["first of it", "b"], "count": 2}}
    pages.execute(
        "INSERT INTO job_ledger (correlation_id, result, state, operation) VALUES (%s, %s, 'SUCCESS', 'batch_insert')",
        batch, json.dumps(result),
    )  # fmt: skip
    operator = pages.visitor("operator")
    listed = operator.get("/jobs").text
    assert ">delete heapq.nsmallest</a>" in listed
    assert f">delete of pattern {gone}</a>" in listed
    assert ">batch_insert 2 patterns, first first of it</a>" in listed
    assert operator.get(f"/jobs/{batch}").status == 200
    assert listed.count(">due ") == 2
    page = operator.get(f"/jobs/{jobs[there]}").text
    assert "<h1>delete heapq.nsmallest</h1>" in page
    assert f'<a href="/patterns/{there}">{there}</a>' in page
    assert "<dt>Due</dt>" in page
    assert re.search(r"<li>QUEUED: delete heapq.nsmallest, due \d", operator.get("/jobs/cancel", id=jobs[there]).text)
    # After it was cancelled as well, and in the audit.
    assert "<h1>delete heapq.nsmallest</h1>" in operator.submit("/jobs/cancel", id=jobs[there]).text
    assert f'<a href="/jobs/{jobs[there]}">delete heapq.nsmallest</a>' in operator.get("/audit").text
    again = operator.get("/jobs/retry", id=jobs[there]).text
    assert "<li>REVOKED: delete heapq.nsmallest</li>" in again
    # In bulk a cancelled job is not sent again.
    assert "/jobs/retry" not in operator.get("/jobs", state="REVOKED").text
    refused = operator.get("/jobs/retry", state="REVOKED").text
    assert "Send again 0 jobs?" in refused
    assert '<button class="btn btn-' not in refused
    with PatternStorageClient(redis_url=pages.redis_url) as client:
        waiting = client.delete(there).correlation_id
    assert ">delete heapq.nsmallest</a>" in operator.get("/jobs", state="QUEUED").text
    assert "QUEUED: delete heapq.nsmallest" in operator.get("/jobs/cancel", id=waiting).text
    pages.execute("DELETE FROM pattern_templates")


def test_where_very_many_jobs_wait_a_page_searches_a_part(pages: Pages) -> None:
    ended = end(pages, name="asyncio.gather", at="2020-01-01T00:00:00Z")
    pages.execute(
        "INSERT INTO outbox (correlation_id, contract, created_at, publish_after)"
        " SELECT gen_random_uuid(), '{}', now() - n * interval '1 second', now() + interval '1 day'"
        " FROM generate_series(1, 10100) AS n"
    )
    visitor = pages.visitor("operator")
    try:
        first = visitor.get("/jobs", name="asyncio.gather").text
        assert "only 10,000 of each kind were searched" in first
        assert "No job matches so far." in first
        [more] = re.findall(r'href="([^"]*)">More</a>', first)
        second = visitor.get(html.unescape(more)).text
        assert str(ended) in second
        assert "were searched" not in second
        assert "Cancel 0 jobs?" in visitor.get("/jobs/cancel", name="asyncio.gather").text
    finally:
        pages.empty("outbox")
