"""Pages beside those of jobs and dead letters: the overview, the audit, a pattern, and what every page has."""

import json
import re
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.types.json import Json

from tests.fix_pages import TEMPLATE, Pages, before, end
from tests.fix_process import wait_until
from tests.fix_storage import make_pattern

pytestmark = pytest.mark.usefixtures("clean_pages")


def test_the_overview_says_what_is_wrong_with_a_link_to_it(pages: Pages) -> None:
    end(pages, "FAILURE", error_type="unique_violation", at=before(minutes=20))
    end(pages, at=before(minutes=20))
    end(pages, at=before(seconds=1), duration=9_000.0)
    pages.execute(
        "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)"
        " VALUES (gen_random_uuid(), '{}', 'worker_lost', 'gone', 5, now())"
    )
    visitor = pages.visitor("viewer")
    assert visitor.get("/").text == "/overview"

    def checked() -> Any:
        page = visitor.get("/overview").text
        return "are being checked" not in page and page

    page: str = wait_until(checked, "servers are checked")
    assert re.search(r'<a href="/dead-letters">1 dead letter to replay or discard', page)
    # No worker is there.
    assert re.search(r'<a href="/workers">workers: none answers', page)
    assert page.count('<svg class="plot"') == 3
    # Of the whole hour, not of its last minute.
    assert re.search(r"<strong>500 ms</strong><span>duration, last hour: median", page)
    assert visitor.get("/overview", span="day").text.count('<svg class="plot"') == 3
    assert visitor.get("/overview", span="year").status == 400
    assert "PostgresqlImpl" not in pages.flower.group.text(), "a check of the migrations is not logged"


def test_the_audit_says_who_did_what(pages: Pages) -> None:
    for actor in ("ann", "<i>bob</i>"):
        pages.execute(
            "INSERT INTO audit_log (actor, action, filter, count) VALUES (%s, 'cancel', '{\"state\": \"RETRY\"}', 12)",
            actor,
        )
    visitor = pages.visitor("viewer")
    page = visitor.get("/audit").text
    assert "&lt;i&gt;bob&lt;/i&gt;" in page
    assert "state RETRY" in page
    assert ">ann<" not in visitor.get("/audit", actor="<i>bob</i>").text
    assert "No entry matches" in visitor.get("/audit", action="other").text
    for wrong in ("x", "9" * 30, "-1"):
        assert visitor.get("/audit", before=wrong).status == 400
    assert "ann" in visitor.get("/audit", before="9223372036854775807").text
    for about in ({"jobs": [f"id{n}" for n in range(9)]}, {"jobs": {"old": "new"}}):
        pages.execute(
            "INSERT INTO audit_log (actor, action, filter, count) VALUES ('a', 'b', %s, 9)", json.dumps(about)
        )
    page = visitor.get("/audit").text
    assert "jobs id0, id1, id2 and 6 more" in page
    assert "jobs old → new" in page


def test_a_pattern_has_a_page_without_its_code(pages: Pages) -> None:
    pages.empty("pattern_templates")
    given = make_pattern(
        pattern_name="pooled <i>", template_code=TEMPLATE, example_usage=TEMPLATE, description="Keeps <b>some</b>",
        context={"code": TEMPLATE}, tags=["x", "y"],
    )  # fmt: skip
    columns = ", ".join(given)
    written = (
        f"INSERT INTO pattern_templates ({columns}, parent_pattern_id)"
        f" VALUES ({', '.join(f'%({name})s' for name in given)}, %(parent)s) RETURNING id"
    )
    with psycopg.connect(pages.database_url, autocommit=True) as connection:

        def write(parent: UUID | None = None, **changed: Any) -> UUID:
            values = given | changed | {"context": Json(given["context"]), "parent": parent}
            row = connection.execute(written, values).fetchone()
            assert row
            return cast("UUID", row[0])

        first = write()
        second = write(first, pattern_name="pooled again")
        third = write(language="go")
    job = end(pages, "FAILURE", name="pooled <i>", error_type="unique_violation", error="there is one")
    pages.execute(
        "UPDATE job_ledger SET result = jsonb_build_object('success', true, 'data', jsonb_build_object('pattern_id',"
        " %s::text))::json WHERE correlation_id = %s", str(first), job,
    )  # fmt: skip
    visitor = pages.visitor("viewer")
    assert f'href="/patterns/{first}"' in visitor.get(f"/jobs/{job}").text
    page = visitor.get(f"/patterns/{first}").text
    for said in (
        "pooled &lt;i&gt;", "Keeps &lt;b&gt;some&lt;/b&gt;", "x, y", f"/patterns/{second}", f"/patterns/{third}",
        f"/jobs/{job}", f"{len(TEMPLATE)} B",
    ):  # fmt: skip
        assert said in page, said
    assert f'href="/patterns/{first}">pooled &lt;i&gt;</a>' in visitor.get(f"/patterns/{second}").text
    queries = (
        {"name": "pooled <i>"},
        {"since": "2020-01-01T00:00"},
        {"until": "2020-01-01T00:00"},
        {"until": "2100-01-01"},
    )
    listed = [visitor.get("/patterns", **query).text for query in queries]
    found = [re.findall(r'<code class="pages-id">(\S+)</code>', text) for text in listed]
    assert [len(each) for each in found] == [2, 3, 0, 3]
    assert found[1] == [str(each) for each in (third, second, first)]
    assert TEMPLATE not in page + "".join(listed)
    for path, status in ((f"/patterns/{uuid4()}", 404), ("/patterns/nothing", 404), ("/patterns?since=x", 400)):
        assert visitor.get(path).status == status


def test_pages_say_what_browsers_need(pages: Pages) -> None:
    page = pages.visitor("viewer").get("/dead-letters").text
    # One heading, a way past the navigation, and the page's own place in it.
    assert page.count("<h1>") == 1
    assert 'class="skip-link"' in page
    assert len(re.findall(r'aria-current="page"', page)) == 1
    # Nothing from elsewhere, and no script in the page.
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!flower\.readthedocs|github\.com/mher)', page)
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []


def test_throughput_is_a_plot_beside_the_figure(pages: Pages) -> None:
    """A queue's name may be anything that a producer wrote into a message, and the name of any key."""
    pages.execute(
        "INSERT INTO job_ledger (correlation_id, result, state, operation, queue, finished_at)"
        " SELECT gen_random_uuid(), '{}', 'SUCCESS', 'insert', queue, now() - n * interval '20 seconds'"
        " FROM generate_series(1, 60) AS n, unnest(ARRAY['storage', 'old', 'celery-task-meta-x', '<b>', NULL]) AS queue"
    )
    with redis.Redis.from_url(pages.redis_url) as server:
        server.set("celery-task-meta-x", "a result")
    viewer = pages.visitor("viewer")
    row = re.compile(r'href="/queues/of/([^"]*)"(?:(?!</tr>).)*<svg class="spark"', re.DOTALL)
    wait_until(
        lambda: row.findall(viewer.get("/queues").text) == ["storage", "old"], "the plots are kept for ten seconds"
    )
    page = viewer.get("/queues").text
    assert "<b>" not in page
    assert 'aria-label="Jobs a second in the last hour, at most 0.' in page
    assert 'class="plot"' in viewer.get("/queues/of/storage").text
