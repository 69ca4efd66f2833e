"""What the pages do: cancel, send again, pause, resume and purge, each asked first and written into the audit."""

import json
import re
from typing import Any, cast
from uuid import UUID

import pytest
import redis

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.flower.pages.actions import ActionHandler
from pattern_storage.tasks.flower.pages.routes import ROUTES
from tests.fix_pages import Pages, end
from tests.fix_process import wait_until
from tests.fix_storage import make_pattern

pytestmark = pytest.mark.usefixtures("clean_pages")

ACTIONS = [str(route.regex.pattern) for route in ROUTES if issubclass(route.target, ActionHandler)]


def audit(pages: Pages) -> list[tuple[Any, ...]]:
    return pages.execute("SELECT actor, action, count FROM audit_log ORDER BY id")


def states(pages: Pages) -> dict[UUID, str]:
    return dict(pages.execute("SELECT correlation_id, state FROM job_ledger"))


def test_what_waits_is_listed_and_cancelled(pages: Pages, pages_client: PatternStorageClient) -> None:
    jobs = [pages_client.insert(make_pattern(pattern_name=f"p{n % 2}")) for n in range(6)]
    batch = pages_client.batch_insert([make_pattern()])
    operator = pages.visitor("operator")
    listed = operator.get("/jobs", state="QUEUED").text
    assert "7 jobs in the broker" in listed
    assert all(str(job.correlation_id) in listed for job in (*jobs, batch))
    assert "3 jobs in the broker" in operator.get("/jobs", name="p1").text
    assert "1 job in the broker" in operator.get("/jobs", operation="batch_insert").text
    with redis.Redis.from_url(pages.redis_url) as server:
        # As one whose delay passes in a worker.
        [message] = cast("list[bytes]", server.lrange("storage", 0, 0))
        server.lrem("storage", 1, message.decode())
        server.hset(UNACKED_KEYS["unacked_key"], "tag", json.dumps([json.loads(message), "", "storage"]))
        assert "7 jobs in the broker" in operator.get("/jobs").text
        server.delete(UNACKED_KEYS["unacked_key"])
        server.lpush("storage", message)

    # One, from its own page.
    [cancel] = re.findall(r'href="(/jobs/cancel[^"]*)"', operator.get(f"/jobs/{jobs[0].correlation_id}").text)
    shown = operator.submit(cancel)
    assert "Done: 1 cancelled." in shown.text
    assert ">REVOKED</span>" in shown.text
    assert jobs[0].status() == "REVOKED"

    # All that match, with their number in the question.
    assert "Cancel 3 jobs?" in operator.get("/jobs/cancel", name="p1").text
    assert "Done: 3 cancelled." in operator.submit("/jobs/cancel", name="p1").text
    assert {job.status() for job in jobs[1::2]} == {"REVOKED"}
    assert {job.status() for job in (*jobs[2::2], batch)} == {"QUEUED"}
    assert audit(pages) == [("otto", "cancel", 1), ("otto", "cancel", 3), ("otto", "cancel by filter", 3)]


def test_a_failed_job_is_sent_again_under_a_new_id(pages: Pages) -> None:
    failed = [end(pages, "FAILURE", error_type="pool_timeout", error="no") for _ in range(3)]
    operator = pages.visitor("operator")
    assert "Done: 1 sent again." in operator.submit("/jobs/retry", id=failed[0]).text
    page = operator.get(f"/jobs/{failed[0]}").text
    [new] = re.findall(r'<dt>Sent again as</dt><dd><a href="/jobs/([^"]*)"', page)
    again = operator.get(f"/jobs/{new}").text
    assert ">QUEUED</span>" in again
    assert f'<dt>Sent again for</dt><dd><a href="/jobs/{failed[0]}"' in again
    # The rest by filter; the one that was sent again is left alone.
    assert "Send again 2 jobs?" in operator.get("/jobs/retry", error_type="pool_timeout").text
    assert "Done: 2 sent again." in operator.submit("/jobs/retry", error_type="pool_timeout").text
    with redis.Redis.from_url(pages.redis_url) as server:
        assert server.llen("storage") == 3
    assert pages.execute("SELECT count(DISTINCT retried_from) FROM job_retries") == [(3,)]
    assert audit(pages)[-1] == ("otto", "send again by filter", 2)


def test_nothing_is_done_to_jobs_in_other_states(pages: Pages) -> None:
    done = end(pages)
    operator = pages.visitor("operator")
    for path in ("/jobs/cancel", "/jobs/retry"):
        assert "0 jobs?" in operator.get(path, state="SUCCESS").text
        assert operator.post(path, True, None, state="SUCCESS").status == 303
        answer = operator.post(path, True, None, id=str(done))
        assert "Nothing was left to be" in operator.get(answer.text).text, answer
    assert (states(pages), audit(pages)) == ({done: "SUCCESS"}, [])


def test_queues_are_paused_resumed_and_purged(pages: Pages, pages_client: PatternStorageClient) -> None:
    jobs = [pages_client.insert(make_pattern()) for _ in range(3)]
    with redis.Redis.from_url(pages.redis_url) as server:
        # What a foreign producer says of its job may be the whole template.
        server.lpush("storage", b'{"headers": {"id": "x", "task": "t", "argsrepr": "def secret(): ..."}, "body": "?"}')
    operator, admin = pages.visitor("operator"), pages.visitor("admin")
    assert operator.get("/broker").text == "/queues"
    waiting = operator.get("/queues/of/storage").text
    assert "4 jobs" in waiting
    assert "def secret" not in waiting
    assert "insert pattern " in waiting

    assert "Done: 1 paused." in operator.submit("/queues/pause", name="storage").text
    listed = operator.get("/queues").text
    assert "by otto" in listed
    assert "none while it is paused" in listed
    assert "/queues/resume?name=storage" in listed
    assert pages.execute("SELECT kind, name FROM pauses") == [("queue", "storage")]
    assert "Done: 1 resumed." in operator.submit("/queues/resume", name="storage").text

    assert "/queues/purge" not in operator.get("/queues").text
    assert "Purge 4 jobs from the queue storage?" in admin.get("/queues/purge", name="storage").text
    assert "Done: 4 purged." in admin.submit("/queues/purge", name="storage").text
    assert {job.status() for job in jobs} == {"REVOKED"}
    assert audit(pages)[:2] == [("otto", "pause queue", 1), ("otto", "resume queue", 1)]
    for path in ("/queues/of/x", "/queues/pause?name=x", "/queues/purge?name="):
        assert admin.get(path).status == 404


def test_a_queue_of_another_name_is_like_ours(pages: Pages, pages_client: PatternStorageClient) -> None:
    pages_client.insert(make_pattern(pattern_name="quick one"), queue="fast")
    admin = pages.visitor("admin")
    wait_until(lambda: "/queues/of/fast" in admin.get("/queues").text, "the walk over the keys has come to it")
    assert "quick one" in admin.get("/queues/of/fast").text
    assert "quick one" in admin.get("/jobs", state="QUEUED").text
    assert "quick one" in admin.get("/jobs", queue="fast", name="quick one").text
    assert "1 paused" in admin.submit("/queues/pause", name="fast").text
    assert "Purge 1 job from the queue fast?" in admin.get("/queues/purge", name="fast").text
    assert "1 purged" in admin.submit("/queues/purge", name="fast").text
    # Paused, it is there though nothing is in it.
    assert "/queues/resume?name=fast" in admin.get("/queues/of/fast").text
    assert "1 resumed" in admin.submit("/queues/resume", name="fast").text


def test_imports_are_paused_and_resumed(pages: Pages) -> None:
    pages.imports_file.write_text('[[import]]\nname = "nightly"\nsource = "x.csv"\nevery = "1h"\n')
    operator = pages.visitor("operator")
    assert "Done: 1 paused." in operator.submit("/imports/pause", name="nightly").text
    assert "by otto" in operator.get("/imports").text
    assert "Done: 1 resumed." in operator.submit("/imports/resume", name="nightly").text
    assert audit(pages) == [("otto", "pause import", 1), ("otto", "resume import", 1)]


@pytest.mark.parametrize("path", ACTIONS)
def test_nobody_acts_who_may_not(pages: Pages, pages_client: PatternStorageClient, path: str) -> None:
    path = path.removesuffix("$")
    failed = end(pages, "FAILURE", error_type="pool_timeout", error="no")
    job, before = pages_client.insert(make_pattern()), states(pages)
    fields = {"name": "storage", "id": str(job.correlation_id)}
    viewer, operator = pages.visitor("viewer"), pages.visitor("operator")
    refused = [
        viewer.get(path, **fields), viewer.post(path, True, None, **fields), viewer.post(path),
        viewer.post(path, True, None, id=str(failed)), operator.post(path, False, None, **fields),
        operator.post(path, False, None, _xsrf="guessed", **fields),
        operator.post(path, True, {"Origin": "http://elsewhere.example"}, **fields),
        operator.post(path, True, {"Sec-Fetch-Site": "cross-site"}, **fields),
    ]  # fmt: skip
    assert {answer.status for answer in refused} == {403}
    assert (states(pages), job.status(), audit(pages)) == (before, "QUEUED", [])
    assert pages.execute("SELECT FROM pauses") == []
