"""`dead-letters` where there are more than fit on one page, or in memory."""

from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from pattern_storage.storage import dead_letters
from pattern_storage.storage.dead_letters import CHUNK_LIMIT, CHUNK_SIZE, Entry
from tests.fix_cli import Cli

COUNT = 7
#: All at once, as after an outage, so that only the id tells one from the next; one is no contract at all.
BURY: LiteralString = """
    INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, operation, pattern_name)
    SELECT id, json_build_object('correlation_id', id, 'operation', CASE number WHEN 3 THEN 'x' ELSE 'insert' END,
               'data', json_build_object('pattern_name', 'p' || number, 'pattern_type', 't', 'language', 'l',
                                         'template_code', 'c')),
           CASE WHEN number %% 2 = 0 THEN 'even' ELSE 'odd' END, 'e', 5, now(), 'insert', 'p' || number
    FROM (SELECT number, gen_random_uuid() AS id FROM generate_series(0, %s - 1) AS number) AS numbers
    RETURNING correlation_id
"""


@pytest.fixture
def letters(database_url: str) -> set[str]:
    """The ids of seven dead letters, number 3 of which cannot be replayed."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        return {str(each) for (each,) in connection.execute(BURY, [COUNT])}


@pytest.fixture
def paged(cli: Cli, monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str) -> Any:
    """The command, with two to a page and one contract at a time."""
    monkeypatch.setattr("pattern_storage.tasks.cli.dead_letters.PAGE_SIZE", 2)
    monkeypatch.setattr("pattern_storage.storage.dead_letters.CHUNK_SIZE", 1)
    urls: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return lambda *arguments: cli("dead-letters", *arguments, **urls)


def test_every_page_is_listed_and_discarded(paged: Any, letters: set[str]) -> None:
    listed = [letter["correlation_id"] for letter in paged("list", "--json").json]
    assert (len(listed), set(listed)) == (COUNT, letters)
    assert [letter["correlation_id"] for letter in paged("list", "--json", "--limit", "3").json] == listed[:3]
    assert paged("list", "--json", "--limit", "0").json == []
    assert len(paged("list", "--json", "--error-type", "odd").json) == 3
    [third] = paged("list", "--json", "--name", "p3", "--operation", "insert").json
    assert third["contract"]["data"]["pattern_name"] == "p3"
    assert paged("list", "--json", "--name", "p3", "--operation", "delete").json == []
    assert "--operation is 'drop'" in paged("replay", "--operation", "drop").error
    assert paged("discard", "--name", "p3", "--dry-run").out.split() == [third["correlation_id"]]
    assert paged("show", listed[5], "--json").json["correlation_id"] == listed[5]

    for command in (("discard", listed[0], listed[6]), ("show",)):
        said = paged(*command, missing := str(uuid4()))
        assert (said.code, said.out, said.error) == (2, "", f"Error: no dead letter has the id {missing}")
    assert paged("discard", "--all", "--dry-run").out.split() == listed
    said = paged("discard", *listed[:3])
    assert (said.code, said.out.split(), said.err) == (0, listed[:3], "discarded: 3\n")
    said = paged("discard", "--all")
    asked = "Error: 4 dead letters would be removed for good. Add --yes to say so, or --dry-run to look first"
    assert (said.code, said.out, said.error) == (2, "", asked)
    said = paged("discard", "--all", "--yes")
    assert (said.code, said.out.split(), said.err) == (0, listed[3:], "discarded: 4\n")
    assert paged("discard", "--all").code == 0, "nothing is left to ask about"
    assert paged("list", "--json").json == []


def test_every_page_is_replayed(paged: Any, letters: set[str], redis_url: str) -> None:
    said = paged("replay", "--all")
    assert said.code == 1
    assert "Unsupported operation: x" in said.error
    assert said.err.endswith("replayed: 6\n")
    assert (len(said.out.split()), set(said.out.split()) < letters) == (6, True)
    with redis.Redis.from_url(redis_url) as server:
        assert server.llen("storage") == 6
    # No worker has taken one yet: until its effect commits each is a dead letter, or a lost message would lose the job.
    assert {letter["correlation_id"] for letter in paged("list", "--json").json} == letters


async def test_one_that_dies_again_is_not_met_twice(letters: set[str], connection: AsyncConnection[DictRow]) -> None:
    first = await dead_letters.page(connection, limit=3)
    await connection.execute("UPDATE dead_letters SET died_at = clock_timestamp() WHERE error_type = 'odd'")
    rest = await dead_letters.page(connection, after=first[-1])
    met = [str(entry.correlation_id) for entry in (*first, *rest)]
    assert len(met) == len(set(met))
    assert set(met) <= letters
    assert all(entry.size > 0 for entry in first)


def entries(*sizes: int) -> list[Entry]:
    return [Entry(UUID(int=number), datetime.now(UTC), size) for number, size in enumerate(sizes)]


def test_contracts_are_read_in_groups_that_fit() -> None:
    half = CHUNK_SIZE // 2
    groups = dead_letters.chunks(entries(half, half, 1, 2 * CHUNK_SIZE, half))
    assert [[each.int for each in group] for group in groups] == [[0, 1], [2], [3], [4]]
    assert [len(group) for group in dead_letters.chunks(entries(*[1] * (CHUNK_LIMIT + 1)))] == [CHUNK_LIMIT, 1]
    assert list(dead_letters.chunks([])) == []


#: Contracts as an application may write them with SQL, and what is said of each that cannot be sent again.
HOSTILE = {
    "deep": (f'{{"operation": "insert", "data": {{"context": {"[" * 3_000}1{"]" * 3_000}}}}}', "recursion limit"),
    "digits": (f'{{"operation": "insert", "data": {{"usage_count": {"9" * 5_000}}}}}', "number out of range"),
    "infinite": ('{"operation": "query", "query_params": {"min_confidence": 1e999}}', "more digits than can be kept"),
    "surrogate": ('{"operation": "insert", "data": {"pattern_name": "\\ud800"}}', "unexpected end of hex escape"),
    "nul": ('{"operation": "in\\u0000sert", "data": {}}', "Unsupported operation"),
    "list": ('["insert"]', "should be a JSON object, got list"),
    "text": ('"insert"', "should be a JSON object, got str"),
    "nothing": ("null", "should be a JSON object, got NoneType"),
    "no operation": ("{}", "operation"),
    "another id": (f'{{"operation": "delete", "pattern_id": "{uuid4()}", "correlation_id": "{uuid4()}"}}', "another"),
}


def test_one_that_cannot_be_read_holds_up_no_other(paged: Any, database_url: str, letters: set[str]) -> None:
    ids = {name: str(uuid4()) for name in HOSTILE}
    # Written by SQL without an id of its own: it is the row's.
    plain = str(uuid4())
    with psycopg.connect(database_url, autocommit=True) as connection:
        hostile = {ids[name]: contract for name, (contract, _) in HOSTILE.items()}
        for each, contract in (hostile | {plain: f'{{"operation": "delete", "pattern_id": "{plain}"}}'}).items():
            connection.execute(
                "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)"
                " VALUES (%s, %s::json, 'validation_error', 'e', 1, now())",
                [each, contract],
            )
    listed = paged("list")
    assert listed.code == 0
    assert all(each in listed.out for each in (*ids.values(), plain, *letters))
    assert "insert, contract cannot be read: recursion limit exceeded" in listed.out
    in_json = {letter["correlation_id"]: letter["contract"] for letter in paged("list", "--json").json}
    assert in_json.keys() == {*ids.values(), plain, *letters}
    assert in_json[ids["deep"]] == HOSTILE["deep"][0]
    for each in ids.values():
        assert paged("show", each).code == paged("show", each, "--json").code == 0

    said = paged("replay", "--all")
    assert said.code == 1
    assert set(said.out.split()) == {plain, *letters} - {line.split()[0] for line in said.err.splitlines()}
    complaints = {line.split()[0]: line for line in said.err.splitlines() if "cannot be replayed" in line}
    assert len(complaints) == len(HOSTILE) + 1
    for name, (_, reason) in HOSTILE.items():
        assert reason in complaints[ids[name]], complaints[ids[name]]
