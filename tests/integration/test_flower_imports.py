"""Pages of the imports in Flower: schedules, runs with their progress, run now and stop."""

import json
import re
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import redis

from pattern_storage.storage.sql import block
from pattern_storage.tasks.client.result_document import result_key
from tests.fix_pages import Pages

IMPORTS = """
[[import]]
name = "nightly"
source = "https://user@example.org/patterns.csv?token=secret-token"
schedule = "30 2 * * *"

[[import]]
name = "off"
source = "off.csv"
every = "1h"
enabled = false
"""
RUN = """
    INSERT INTO import_runs (run_id, name, plan, state, queued_at, started_at, finished_at, rows_read,
                             error_type, error)
    VALUES (%s, %s, '{"source": "s3://bucket/x.csv?secret"}', %s, now() - interval '2 hours',
            now() - interval '1 hour', CASE WHEN %s THEN NULL ELSE now() - interval '50 minutes' END, 1234, %s, %s)
"""


@pytest.fixture(autouse=True)
def _imports(pages: Pages) -> Iterator[None]:
    pages.imports_file.write_text(IMPORTS)
    yield
    pages.empty("import_runs", "job_ledger")
    with redis.Redis.from_url(pages.redis_url) as server:
        server.flushdb()


def add_run(pages: Pages, name: str, state: str, error: str | None = None) -> UUID:
    run_id = uuid4()
    is_open = state in ("queued", "running")
    pages.execute(RUN, run_id, name, state, is_open, error and "source_missing", error)
    return run_id


def test_the_list_has_what_the_file_and_the_history_have(pages: Pages) -> None:
    add_run(pages, "gone", "failed", "it is <b>not</b> there")
    page = pages.visitor("viewer").get("/imports").text
    assert "30 2 * * * UTC" in page
    assert re.search(r"\d\d\d\d-\d\d-\d\d 02:30:00", page)
    assert "https://example.org/patterns.csv" in page
    assert "secret" not in page
    assert "disabled" in page
    assert "not in the file" in page
    assert "it is &lt;b&gt;not&lt;/b&gt; there" in page
    assert "Run now" not in page
    assert "1,234" in page


def test_a_file_that_is_wrong_is_said(pages: Pages) -> None:
    pages.imports_file.write_text("[[import]]\nname = 1")
    add_run(pages, "nightly", "done")
    page = pages.visitor("viewer").get("/imports").text
    assert "imports.toml" in page
    assert ">nightly</a>" in page


def test_a_history_is_a_plot_whose_bars_lead_to_runs(pages: Pages) -> None:
    done, failed = add_run(pages, "nightly", "done"), add_run(pages, "nightly", "failed", "no")
    page = pages.visitor("viewer").get("/imports/history", name="nightly").text
    assert len(re.findall(r'<rect class="bar (?:good|bad)"', page)) == 2
    for run in (done, failed):
        assert f'<a href="/imports/runs/{run}"><rect' in page
    assert "failed, 10 min" in page
    assert pages.visitor("viewer").get("/imports/history", name="nobody").status == 404


def test_a_run_says_how_far_it_is(pages: Pages) -> None:
    run = add_run(pages, "nightly", "running")
    progress = {"phase": "reading", "current": 250_000, "total": 1_000_000, "rate": 23_654.4, "percent": 25.0,
                "seconds_left": 31.7, "bytes": 5_000_000, "bytes_total": 20_000_000}  # fmt: skip
    with redis.Redis.from_url(pages.redis_url) as server:
        server.set(result_key(run), json.dumps({"status": "PROGRESS", "result": progress}))
        visitor = pages.visitor("viewer")
        page = " ".join(visitor.get(f"/imports/runs/{run}").text.split())
        assert 'max="100" value="25.0"' in page
        assert "25 %: 250,000 of 1,000,000 rows, 5.0 MB of 20.0 MB, 23,654/s, 32 s left" in page
        assert "Stop" not in page
        # What it has written is known at its end.
        assert "<dd>250,000 read</dd>" in page
        assert "1,234" not in visitor.get("/imports").text
        # What is no figure is none here either.
        odd = {"phase": "<script>", "current": "x", "percent": float("nan"), "rate": -1, "bytes": 1}
        server.set(result_key(run), json.dumps({"status": "PROGRESS", "result": odd}))
        page = visitor.get(f"/imports/runs/{run}").text
        assert "<strong>&lt;script&gt;</strong>" in page
        server.set(result_key(run), json.dumps({"status": "STARTED", "result": None}))
        assert "It has not said yet how far it is" in visitor.get(f"/imports/runs/{run}").text
    for unknown in (uuid4(), "x", "%00"):
        assert visitor.get(f"/imports/runs/{unknown}").status == 404


def test_a_run_with_rejected_rows_names_their_file(pages: Pages) -> None:
    run = add_run(pages, "nightly", "done")
    result = {"success": True, "data": {"reject_file": "/data/<b>.jsonl"}, "metadata": {"correlation_id": str(run)}}
    pages.execute("UPDATE import_runs SET rows_rejected = 1")
    pages.execute(
        "INSERT INTO job_ledger (correlation_id, result, state, operation) VALUES (%s, %s, 'SUCCESS', 'import')",
        run, json.dumps(result),
    )  # fmt: skip
    assert "/data/&lt;b&gt;.jsonl on the machine" in pages.visitor("viewer").get(f"/imports/runs/{run}").text


def test_a_run_that_hangs_is_flagged(pages: Pages) -> None:
    run, visitor = add_run(pages, "nightly", "running"), pages.visitor("viewer")

    def report(current: int, seconds: int) -> None:
        """Report progress, as a run does, and let it be some time ago."""
        progress = json.dumps({"phase": "reading", "current": current, "bytes": 9, "rate": seconds})
        pages.execute_named(block("save_progress"), {"run_id": run, "progress": progress})
        pages.execute("UPDATE import_progress SET updated_at = updated_at - make_interval(secs => %s)", seconds)

    report(1, 0)
    assert "no progress" not in visitor.get("/imports").text
    report(1, 90)
    # It still reports, but always the same.
    report(1, 0)
    assert visitor.get("/imports").text.count("no progress for 1 min") == 2
    assert f'<a href="/imports/runs/{run}">import nightly: no progress for 1 min' in visitor.get("/overview").text
    assert "It has made no progress for 1 min" in visitor.get(f"/imports/runs/{run}").text
    report(2, 0)
    assert "no progress" not in visitor.get("/imports").text


def test_an_import_that_never_ran_has_a_page(pages: Pages) -> None:
    page = pages.visitor("viewer").get("/imports/history", name="off")
    assert (page.status, "off.csv" in page.text, "Nothing has been imported yet" in page.text) == (200, True, True)


def test_run_now(pages: Pages) -> None:
    add_run(pages, "gone", "done")
    operator = pages.visitor("operator")
    for name in ("nightly", "gone"):
        assert "Done: 1 started." in operator.submit("/imports/run", name=name).text
    runs = pages.execute(
        "SELECT name, state, published, plan ->> 'source' FROM import_runs WHERE due IS NULL AND force"
    )
    assert sorted(runs) == [
        ("gone", "queued", 1, "s3://bucket/x.csv?secret"),
        ("nightly", "queued", 1, "https://user@example.org/patterns.csv?token=secret-token"),
    ]
    with redis.Redis.from_url(pages.redis_url) as server:
        assert server.llen("imports") == 2
    # One run at a time.
    refused = operator.post("/imports/run", True, None, name="nightly")
    assert (refused.status, "has not ended yet" in refused.text) == (400, True)
    assert operator.get("/imports/run", name="nobody").status == 404
    assert operator.post("/imports/run", name="nobody").status == 404


def test_stop(pages: Pages) -> None:
    run, ended = add_run(pages, "nightly", "running"), add_run(pages, "nightly", "done")
    operator = pages.visitor("operator")
    page = operator.submit("/imports/stop", id=run)
    assert "Done: 1 stopped." in page.text
    assert ">cancelled</span>" in page.text
    assert pages.execute("SELECT state FROM import_runs WHERE run_id = %s", run) == [("cancelled",)]
    assert pages.execute("SELECT state FROM job_ledger WHERE correlation_id = %s", run) == [("REVOKED",)]
    # What has ended has ended.
    assert '<button class="btn btn-danger">' not in operator.get("/imports/stop", id=ended).text
    assert operator.post("/imports/stop", id=ended).status == 303
    assert pages.execute("SELECT state FROM import_runs WHERE run_id = %s", ended) == [("done",)]


def test_a_viewer_starts_and_stops_nothing(pages: Pages) -> None:
    run, viewer = add_run(pages, "nightly", "running"), pages.visitor("viewer")
    for path, fields in (("/imports/run", {"name": "nightly"}), ("/imports/stop", {"id": str(run)})):
        assert viewer.get(path, **fields).status == 403
        assert viewer.post(path, True, None, **fields).status == 403
        assert pages.visitor("operator").post(path, False, None, **fields).status == 403
    assert pages.execute("SELECT state FROM import_runs") == [("running",)]
