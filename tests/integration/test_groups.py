"""Groups in PostgreSQL: one round trip, outcomes as if each job had been alone, and nothing left behind."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.model_contract_pattern_storage import OF_MESSAGE
from pattern_storage.storage.pattern import WRITABLE
from tests.fix_storage import contract, make_pattern, succeed


@pytest.fixture(params=[False, True], ids=["session", "pooler"])
def group(database_url: str, request: pytest.FixtureRequest) -> Iterator[GroupConnection]:
    """Executes groups: on a session of its own, and as behind PgBouncer."""
    opened = GroupConnection(database_url, connect_timeout=5, statement_timeout=30, pooler=request.param)
    yield opened
    opened.close()


def comparable(result: ModelResult | None) -> dict[str, Any]:
    """A result without what differs each time; the shape of these values stays."""
    assert result is not None
    shown = result.to_dict()
    for part, names in (("data", ("pattern_id", "created_at", "updated_at")), ("metadata", ("duration_ms",))):
        for name in names:
            if name in (shown[part] or {}):
                shown[part][name] = type(shown[part][name]).__name__
    return shown


async def test_outcomes_are_those_of_jobs_alone(group: GroupConnection, node: NodePatternStorageEffect) -> None:
    """Every kind of job, good and bad: results and what the ledger keeps say the same either way."""

    async def asked() -> list[ModelContractPatternStorage]:
        stored = [await succeed(node, "insert", data=make_pattern()) for _ in range(2)]
        taken = make_pattern(context={"whole": 1.0, "tab": "\t\"'\\"}, tags=["a"])
        bad = contract("insert", data=make_pattern())
        bad.data["confidence_score"] = 7
        return [
            contract("insert", data=taken),
            contract("insert", data=taken | {"source": "twice"}),
            contract("update", pattern_id=stored[0]["pattern_id"], data={"usage_count": 3, "context": {"b": [1.5]}}),
            contract("update", pattern_id=uuid4(), data={"usage_count": 3}),
            contract("delete", pattern_id=stored[1]["pattern_id"]),
            contract("delete", pattern_id=stored[1]["pattern_id"]),
            bad,
        ]

    together, alone = await asked(), await asked()
    results = group.execute(together)
    for mine, other, result in zip(together, alone, results, strict=True):
        expected = comparable(await node.execute_once(other))
        shown = comparable(result and result.parse())
        for one, asked_for in ((shown, mine), (expected, other)):
            assert one["metadata"].pop("correlation_id") == str(asked_for.correlation_id)
            # Of other names and ids.
            assert len(one["metadata"].pop("request")) == 64
            one["metadata"].pop("canonical_request", None)
            assert ("pattern_name" in one["data"]) if one["data"] else one["error"]
            (one["data"] or {}).pop("pattern_name", None)
        assert shown.pop("error") is None or expected.pop("error") is not None
        expected.pop("error", None)
        assert shown == expected
        again = await node.execute_once(mine)
        assert again.metadata.pop("replayed")
        assert result is not None
        assert again == result.parse()
        assert again.success == result.success
    assert group.execute(together) == [None] * len(together)


async def test_the_same_columns_are_written(
    group: GroupConnection, node: NodePatternStorageEffect, database_url: str
) -> None:
    """Defaults for what is left out, and values that PostgreSQL would not read, or not alike, as they were given."""
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    given: list[dict[str, Any]] = [
        {"template_code": ""},
        {
            "category": None,
            "parent_pattern_id": f"urn:uuid:{parent.upper()}",
            "is_deprecated": True,
            "tags": ["é", '"'],
        },
        {
            "confidence_score": 1,
            "success_rate": 1e-7,
            "usage_count": 2**31 - 1,
            "context": {"a": 1e22, "b": [1.0, None]},
        },
        {"template_code": "\\u0000 \u2028 \x7f \U0001f600 \n", "created_by": ""},
    ]
    written = []
    for way in ("together", "alone"):
        patterns = [
            make_pattern(**{"template_code": "x", "pattern_type": f"type {n}", "language": way} | one)
            for n, one in enumerate(given)
        ]
        asked = [contract("insert", data=one) for one in patterns]
        if way == "together":
            assert all(group.execute(asked))
        else:
            assert all([(await node.execute_once(one)).success for one in asked])
        with psycopg.connect(database_url) as connection:
            columns = ", ".join(set(WRITABLE) - {"pattern_name", "language"})
            query = f"SELECT {columns}, context::text FROM pattern_templates WHERE language = %s ORDER BY pattern_type"
            written.append(connection.execute(query, [way]).fetchall())
    assert len(written[0]) == len(given)
    assert written[0] == written[1]


def test_what_an_insert_asked_for_is_kept_if_it_fails(group: GroupConnection, database_url: str) -> None:
    """It is put together in PostgreSQL, out of the patterns in their own order."""
    keys = [make_pattern(pattern_name=name, context={"}": [1e22, None]}) for name in "cabdabc"]
    asked = [contract("insert", data=key, version=str(n), name=f'"{n}\\') for n, key in enumerate(keys)]
    assert [one and one.success for one in group.execute(asked)] == [True] * 4 + [False] * 3
    with psycopg.connect(database_url) as connection:
        kept: dict[Any, Any] = dict(
            connection.execute("SELECT correlation_id, contract::text FROM job_ledger").fetchall()
        )
    assert [kept.pop(one.correlation_id) for one in asked[:4]] == [None] * 4
    assert [ModelContractPatternStorage.model_validate_json(kept[one.correlation_id]) for one in asked[4:]] == asked[4:]


async def test_a_transaction_that_fails_leaves_nothing(group: GroupConnection, database_url: str) -> None:
    """Each is then done alone, and the connection goes on."""
    good, orphan = (contract("insert", data=make_pattern(**one)) for one in ({}, {"parent_pattern_id": str(uuid4())}))
    query = contract("query")
    assert group.execute([good, orphan, query]) == [None, None, None]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM job_ledger").fetchone() == (0,)
    first, second = group.execute([good, good])
    assert first is not None
    assert first.success
    assert second is None


def test_what_no_ledger_can_keep_spoils_no_neighbour(group: GroupConnection) -> None:
    """Values of a message are looked at by the operation alone, which refuses these; nobody else has seen them."""

    def received(**columns: Any) -> ModelContractPatternStorage:
        given = {"operation": "insert", "data": make_pattern(**columns)}
        return ModelContractPatternStorage.model_validate(given, context=OF_MESSAGE)

    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    bad = [received(pattern_name="\ud800"), received(context={"deep": deep}), received(no_column="\udfff")]
    bad += [received(pattern_name="a\x00b"), received(confidence_score=math.nan), received(context={"k": math.inf})]
    refused, good, *others = group.execute([received(confidence_score=7), received(), *bad])
    assert refused is not None
    assert (refused.success, refused.parse().metadata["error_type"]) == (False, "validation_error")
    assert good is not None
    assert good.success
    assert others == [None] * len(bad)


def test_a_lock_is_not_waited_for_long(group: GroupConnection, database_url: str) -> None:
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE pattern_templates")
        assert group.execute([contract("insert", data=make_pattern())]) == [None]


def test_a_connection_that_was_lost_is_made_again(group: GroupConnection, database_url: str) -> None:
    assert group.execute([contract("insert", data=make_pattern())])[0]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'pattern-storage worker'"
        )
    assert group.execute([contract("insert", data=make_pattern())]) == [None]
    assert group.execute([contract("insert", data=make_pattern())])[0]


def test_no_server_is_not_asked_again_at_once(absent_url: str) -> None:
    asked = [contract("insert", data=make_pattern())]
    unreachable = GroupConnection(f"postgresql://nobody@{absent_url.partition('://')[2]}/none", connect_timeout=2)
    assert unreachable.execute(asked) == [None]
    retry_at = unreachable._retry_at
    assert retry_at > time.monotonic()
    assert unreachable.execute(asked) == [None]
    assert unreachable._retry_at == retry_at


def test_results_are_told_before_the_commit_and_count_after_it(group: GroupConnection, database_url: str) -> None:
    told: list[dict[str, Any]] = []
    job = contract("insert", data=make_pattern())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
            CREATE CONSTRAINT TRIGGER refuse_commit AFTER INSERT ON pattern_templates DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION refuse_commit()""")
        try:
            assert group.execute([job], lambda results: told.append(dict(results))) == [None]
        finally:
            connection.execute("DROP TRIGGER refuse_commit ON pattern_templates; DROP FUNCTION refuse_commit()")
    [result] = group.execute([job], lambda results: told.append(dict(results)))
    assert result is not None
    assert [list(one) for one in told] == [[str(job.correlation_id)], [str(job.correlation_id)]]


def scans(group: GroupConnection, job: str) -> list[str]:
    """The lines of the kept plan of a job's statement that say how the table of patterns is read."""
    connection = group.open()
    name = next(
        name for text, name in connection._prepared.items() if f"{job} " in text and "pattern_templates" in text
    )
    values = ", ".join(PARAMETERS[job])
    [plan] = connection.transaction([(f"EXPLAIN EXECUTE {name.decode()}({values})", [])])
    lines = [str(line, "utf-8").strip(" ->") for (line,) in plan if line]
    return [f"{line} {lines[n + 1]}" for n, line in enumerate(lines) if re.search("Scan .*on pattern_templates", line)]


SOME_ID = f"'{uuid4()}'"


def test_what_was_kept_of_jobs_is_removed(group: GroupConnection, database_url: str) -> None:
    """It is not looked for where the id was made for the message."""
    known, new = (contract("insert", data=make_pattern()) for _ in range(2))
    ids = [known.correlation_id, new.correlation_id]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO job_attempts (correlation_id) SELECT unnest(%s::uuid[])", [ids])
        with delivered({new.correlation_id: Delivery(is_new=True)}):
            assert all(group.execute([known, new]))
        left = connection.execute("SELECT correlation_id FROM job_attempts WHERE correlation_id = ANY (%s)", [ids])
        assert left.fetchall() == [(new.correlation_id,)]


PARAMETERS = {"UPDATE": ("NULL", "NULL", SOME_ID, "NULL", "NULL"), "DELETE": ("NULL", SOME_ID, "NULL")}


JOBS = {"UPDATE": ("update", {"data": {"usage_count": 1}}), "DELETE": ("delete", {})}


@pytest.mark.parametrize("job", ["UPDATE", "DELETE"])
def test_plans_follow_the_size_of_tables(job: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that was made for an empty table is not kept for good: a walk through all of it would be slow later."""
    operation, fields = JOBS[job]
    group = GroupConnection(database_url, connect_timeout=5)
    with closing(group), psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE pattern_templates")
        group.execute([contract(operation, pattern_id=uuid4(), **fields)])
        connection.execute("""
            INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code)
            SELECT 'p' || n, 'code', 'python', 'x' FROM generate_series(1, 3000) AS n""")
        monkeypatch.setattr("pattern_storage.storage.group.PLANS_KEPT", 0.0)
        group.execute([contract(operation, pattern_id=uuid4(), **fields)])
        found = scans(group, job)
    assert len(found) == 2
    assert all("pattern_templates_pkey" in one and "Index Cond: (id = " in one for one in found), found
