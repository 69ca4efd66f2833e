"""Dead letters in Flower: grouped and found, replayed and discarded by filter, each by those who may."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
import redis

from tests.fix_pages import TEMPLATE, Pages, Visitor

BURY: LiteralString = """
    INSERT INTO dead_letters (correlation_id, contract, operation, pattern_name, error_type, error, attempts, first_at)
    SELECT id, contract, contract ->> 'operation', contract #>> '{data,pattern_name}', error_type, error, 5, now()
    FROM (VALUES (%s::uuid, %s::json, %s, %s)) AS letter (id, contract, error_type, error)
"""


def bury(pages: Pages, error_type: str, error: str, **contract: Any) -> UUID:
    """Make a dead letter."""
    job = uuid4()
    data = {"pattern_name": f"p {job.hex[:6]}", "pattern_type": "t", "language": "l", "template_code": TEMPLATE}
    text = json.dumps({"correlation_id": str(job), "operation": "insert", "data": data} | contract)
    pages.execute(BURY, job, text, error_type, error)
    return job


@pytest.fixture
def viewer(pages: Pages) -> Visitor:
    return pages.visitor("viewer")


@pytest.fixture
def operator(pages: Pages) -> Visitor:
    return pages.visitor("operator")


@pytest.fixture
def admin(pages: Pages) -> Visitor:
    return pages.visitor("admin")


@pytest.fixture
def letters(pages: Pages) -> Iterator[dict[str, list[UUID]]]:
    """Eight dead letters that waited for a lock, and two whose worker was lost."""
    locked = [bury(pages, "transaction_conflict", f"lock timeout of row {n} ('x{n}')") for n in range(8)]
    yield {"locked": locked, "lost": [bury(pages, "worker_lost", "its process was killed 5 times") for _ in range(2)]}
    pages.empty("dead_letters")
    with redis.Redis.from_url(pages.redis_url) as server:
        server.flushdb()


def waiting(pages: Pages) -> set[UUID]:
    """The ids of the jobs on the queue `storage`."""
    with redis.Redis.from_url(pages.redis_url) as server:
        messages: Any = server.lrange("storage", 0, -1)
    return {UUID(json.loads(each)["headers"]["id"]) for each in messages}


def left(pages: Pages) -> set[UUID]:
    return {row[0] for row in pages.execute("SELECT correlation_id FROM dead_letters")}


def test_dead_letters_are_grouped_and_found(pages: Pages, viewer: Visitor, letters: dict[str, list[UUID]]) -> None:
    page = viewer.get("/dead-letters").text
    assert "10 dead letters" in page
    assert TEMPLATE not in page
    groups = re.findall(r'<td class="pages-number"><a href="([^"]*)">(\d+)</a>', page)
    assert [count for _, count in groups] == ["8", "2"]
    # A group leads to its letters.
    group = viewer.get(groups[0][0].replace("&amp;", "&")).text
    assert "8 dead letters" in group
    assert all(str(job) in group for job in letters["locked"])
    assert "2 dead letters" in viewer.get("/dead-letters", error_type="worker_lost").text
    one = viewer.get("/dead-letters", id=letters["lost"][0]).text
    assert ("1 dead letter" in one, "insert p " in one) == (True, True)
    assert "No dead letter matches" in viewer.get("/dead-letters", since="2100-01-01T00:00").text
    assert "10 dead letters" in viewer.get("/dead-letters", until="2100-01-01T00:00").text


def test_each_group_leads_to_its_letters(pages: Pages, viewer: Visitor, letters: dict[str, list[UUID]]) -> None:
    """Also where the reason is longer than a parameter may be, or has characters that a URL loses."""
    odd = [bury(pages, "worker_lost", error) for error in ("so long " * 50, " two\nlines\x1b[2J ", "<b>&amp;</b>")]
    groups = re.findall(r'<td class="pages-number"><a href="([^"]*)">1</a>', viewer.get("/dead-letters").text)
    shown = [viewer.get(html.unescape(group)).text for group in groups]
    assert [sum(str(job) in text for job in odd) for text in shown] == [1, 1, 1]


def test_dead_letters_page_by_page(pages: Pages, viewer: Visitor, letters: dict[str, list[UUID]]) -> None:
    for _ in range(50):
        bury(pages, "worker_lost", "again")
    page = viewer.get("/dead-letters").text
    [older] = re.findall(r'href="([^"]*)">Older</a>', page)
    rest = viewer.get(older.replace("&amp;", "&")).text
    shown = [set(re.findall(r'<code class="pages-id">(\S+)</code>', text)) for text in (page, rest)]
    assert [len(ids) for ids in shown] == [50, 10]
    assert {UUID(each) for ids in shown for each in ids} == left(pages)


def test_replay_by_filter(pages: Pages, operator: Visitor, letters: dict[str, list[UUID]]) -> None:
    # One of them cannot be sent again.
    broken = bury(pages, "transaction_conflict", "lock timeout of row 9 ('x9')", operation="none")
    one = pages.execute("SELECT pattern_name FROM dead_letters WHERE correlation_id = %s", letters["lost"][0])[0][0]
    found = operator.get("/dead-letters", name=one, operation="insert").text
    assert ("1 dead letter<" in found, str(letters["lost"][0]) in found) == (True, True)
    assert "No dead letter matches" in operator.get("/dead-letters", name=one, operation="delete").text
    assert operator.get("/dead-letters", operation="drop").status == 400
    shown = operator.submit("/dead-letters/replay", error_type="transaction_conflict", operation="insert")
    assert "8 replayed" in shown.text
    assert waiting(pages) == set(letters["locked"])
    # They stay until they are done.
    assert left(pages) == {*letters["locked"], *letters["lost"], broken}


def test_discard_by_filter(pages: Pages, admin: Visitor, letters: dict[str, list[UUID]]) -> None:
    assert "removed for good" in admin.get("/dead-letters/discard", error_type="worker_lost").text
    shown = admin.submit("/dead-letters/discard", error_type="worker_lost")
    assert "Done: 2 discarded." in shown.text
    assert left(pages) == set(letters["locked"])


def test_only_those_that_were_counted(pages: Pages, admin: Visitor, letters: dict[str, list[UUID]]) -> None:
    """What dies between question and confirmation was not asked about."""
    asked = admin.get("/dead-letters/discard", until="2100-01-01T00:00").text
    [until] = re.findall(r'name="until" value="([^"]*)"', asked)
    late = bury(pages, "worker_lost", "later")
    assert admin.post("/dead-letters/discard", until=until).status == 303
    assert left(pages) == {late}


def test_what_a_role_may_not_do(pages: Pages, letters: dict[str, list[UUID]]) -> None:
    before = left(pages)
    for who, refused in (("viewer", ("replay", "discard")), ("operator", ("discard",)), ("admin", ())):
        visitor = pages.visitor(who)
        page = visitor.get("/dead-letters").text
        for action in ("replay", "discard"):
            assert (f"/dead-letters/{action}" in page) == (action not in refused), (who, action)
        for action in refused:
            for answer in (visitor.get(f"/dead-letters/{action}"), visitor.post(f"/dead-letters/{action}")):
                assert (answer.status, "This takes the role" in answer.text) == (403, True), (who, action)
    assert (left(pages), waiting(pages)) == (before, set())


def test_forged_requests_change_nothing(pages: Pages, admin: Visitor, letters: dict[str, list[UUID]]) -> None:
    before = left(pages)
    assert admin.get("/workers").status == 200
    for answer in (
        admin.post("/dead-letters/discard", token=False),
        admin.post("/dead-letters/discard", token=False, _xsrf="guessed"),
        admin.post("/dead-letters/discard", headers={"Origin": "http://elsewhere.example"}),
        admin.post("/dead-letters/discard", headers={"Sec-Fetch-Site": "cross-site"}),
    ):
        assert answer.status == 403
    assert (left(pages), waiting(pages)) == (before, set())


def test_wrong_filters_are_said(viewer: Visitor) -> None:
    for name, value in (("id", "x"), ("since", "yesterday"), ("error_type", "x" * 256)):
        answer = viewer.get("/dead-letters", **{name: value})
        assert (answer.status, name in answer.text, "should be" in answer.text) == (400, True, True), (name, value)


def test_of_very_many_letters_a_page_searches_a_part(pages: Pages, viewer: Visitor, operator: Visitor) -> None:
    oldest = bury(pages, "worker_lost", "the only one")
    pages.execute("UPDATE dead_letters SET died_at = now() - interval '1 day'")
    pages.execute(
        "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, died_at)"
        " SELECT gen_random_uuid(), '{}', 'connection_lost', 'away', 5, now(), now() - n * interval '1 second'"
        " FROM generate_series(1, 10100) AS n"
    )
    try:
        first = viewer.get("/dead-letters", error_type="worker_lost").text
        assert "only 10,000 were searched" in first
        assert "0 dead letters or more" in first
        [more] = re.findall(r'href="([^"]*)">Older</a>', first)
        second = viewer.get(html.unescape(more)).text
        assert str(oldest) in second
        assert "were searched" not in second
        everything = operator.get("/dead-letters").text
        assert "10,000 dead letters or more" in everything
        assert "Replay all…" in everything
        assert "Replay 1 dead letter?" in operator.get("/dead-letters/replay", error_type="worker_lost").text
    finally:
        pages.empty("dead_letters")
