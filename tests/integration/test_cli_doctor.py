"""`doctor`: what is wrong with a deployment, and what to do about it."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import load_settings
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage import schema
from pattern_storage.storage.installation import Installation
from pattern_storage.tasks.cli.doctor_service import _queue, _refused
from pattern_storage.tasks.cli.doctor_workers import ask_workers
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.installation_signs import KEPT, KEY, read_signs, sign
from pattern_storage.tasks.operate.queues import QueueDepth
from tests.fix_celery import StorageWorker
from tests.fix_cli import ABSENT_POSTGRES, ABSENT_REDIS, Said, found_wrong
from tests.fix_process import wait_until
from tests.fix_storage import make_pattern


def test_all_is_well(doctor: Callable[..., Said], worker: StorageWorker) -> None:
    # What other tests on this worker left for an operator to see to.
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        for left in ("dead_letters", "import_runs", "import_schedules", "outbox"):
            connection.execute(SQL("DELETE FROM {}").format(Identifier(left)))
    with redis.Redis.from_url(worker.redis_url) as server:
        before = server.config_get("appendonly")
        server.delete("storage.unreadable")
        server.config_set("appendonly", "yes")
        try:
            urls = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}
            # A busy worker may take longer to answer than the doctor waits.
            said = wait_until(lambda: (one := doctor("--json", **urls)).code == 0 and one, "nothing is wrong")
            table = wait_until(lambda: (one := doctor(**urls)).code == 0 and one, "nothing is wrong")
        finally:
            server.config_set("appendonly", before["appendonly"])
    found = {finding["subject"]: finding["found"] for finding in said.json}
    assert found["PostgreSQL"].startswith("version ")
    assert found["migrations"] == f"{schema.head()}, needed {schema.head()}"
    assert found["Redis (results and queue)"].startswith("Valkey ")
    assert worker.hostname() in found["workers"]
    settings = load_settings(**{name.lower(): url for name, url in urls.items()})
    assert wait_until(lambda: ask_workers(settings).queues == frozenset(QUEUES), "the worker tells its queues")
    assert table.code == 0
    assert sum(line.startswith("ok") for line in table.out.splitlines()) == len(said.json) == 16
    assert "WRONG" not in table.out
    assert all(set(finding) == {"subject", "ok", "found", "advice", "unreachable"} for finding in said.json)


def test_its_exit_codes_are_those_of_its_help(doctor: Callable[..., Said], database_url: str, redis_url: str) -> None:
    said = " ".join(doctor("--help").out.split())
    for code, meaning, urls in (
        (1, "something is wrong", {"DATABASE_URL": database_url, "REDIS_URL": redis_url}),
        (2, "a setting is missing or wrong", {}),
        (2, "a setting is missing or wrong", {"REDIS_URL": redis_url}),
        (3, "a server is unreachable", {"DATABASE_URL": ABSENT_POSTGRES, "REDIS_URL": ABSENT_REDIS}),
    ):
        assert f"{code} {meaning}" in said
        assert doctor(**urls).code == code


def test_an_imports_file_that_is_wrong(
    doctor: Callable[..., Said], database_url: str, redis_url: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[[import")
    said = doctor("--json", DATABASE_URL=database_url, REDIS_URL=redis_url, PATTERN_STORAGE_IMPORTS_FILE=str(bad))
    assert f"{bad} is not TOML" in found_wrong(said)["imports file"]["found"]
    bad.write_text("")
    said = doctor("--json", DATABASE_URL=database_url, REDIS_URL=redis_url, PATTERN_STORAGE_IMPORTS_FILE=str(bad))
    assert "imports file" not in found_wrong(said)


def test_a_second_installation_on_the_same_redis(
    doctor: Callable[..., Said], worker: StorageWorker, database_url: str, empty_database_url: str
) -> None:
    """Its workers take our jobs, and nothing fails."""

    def found(url: str, **variables: str) -> dict[str, Any] | None:
        said = doctor("--json", DATABASE_URL=url, REDIS_URL=worker.redis_url, **variables)
        return found_wrong(said).get("installation")

    other = wait_until(lambda: found(database_url), "its worker answers")
    theirs = worker.database_url.rpartition("/")[2]
    assert other["found"] == f"{worker.hostname()} writes to database {theirs}, schema public of the same server"
    assert "PATTERN_STORAGE_KEY_PREFIX" in other["advice"]
    assert found(database_url, PATTERN_STORAGE_KEY_PREFIX="apart:") is None
    # Without tables there is nothing to compare.
    assert found(empty_database_url) is None


def test_a_second_installation_of_which_no_worker_runs(
    doctor: Callable[..., Said], worker: StorageWorker, database_url: str, redis_url: str
) -> None:
    """Its workers have left a sign, which they renew; one that is old says nothing."""
    with redis.Redis.from_url(worker.redis_url) as theirs, redis.Redis.from_url(redis_url) as server:
        signs = wait_until(lambda: dict(theirs.zrange(KEY, 0, -1, withscores=True)), "its worker has signed")
        unreadable = dict.fromkeys(("not one of ours", "[" * 100_000), time.time())
        old = {'["1", "restored", "public"]': time.time() - KEPT - 60}
        server.zadd(KEY, signs | unreadable | old | {'["1", "no time", "public"]': float("inf")})
    said = doctor("--json", DATABASE_URL=database_url, REDIS_URL=redis_url)
    database = worker.database_url.rpartition("/")[2]
    strangers = {each["found"].partition(" for ")[2]: each for each in said.json if each["subject"] == "installation"}
    assert strangers.keys() == {
        f"database {database}, schema public of the same server", "database ?, schema ? of another server",
    }  # fmt: skip
    for finding in strangers.values():
        assert not finding["ok"]
        assert "PATTERN_STORAGE_KEY_PREFIX" in finding["advice"]
        assert finding["advice"].endswith(f"delete the Redis key {KEY}")
    # For the installation itself it is no stranger, and under another prefix there is none.
    for own in ({"DATABASE_URL": worker.database_url}, {"PATTERN_STORAGE_KEY_PREFIX": "apart:"}):
        said = doctor("--json", **{"DATABASE_URL": database_url, "REDIS_URL": redis_url} | own)
        assert f"database {database}" not in str(found_wrong(said).get("installation")), own


def test_a_worker_forgets_old_signs(redis_url: str) -> None:
    ours, others = Installation("1", "ours", "public"), Installation("2", "theirs", "public")
    with redis.Redis.from_url(redis_url) as server:
        sign(server, "apart:", others)
        sign(server, "apart:", ours)
        assert read_signs(server, "apart:").keys() == {ours, others}
        server.zadd(f"apart:{KEY}", {json.dumps(others): time.time() - KEPT - 60})
        sign(server, "apart:", ours)
        assert server.zcard(f"apart:{KEY}") == 1


def test_what_is_wrong_with_the_service(
    doctor: Callable[..., Said], database_url: str, client: PatternStorageClient, redis_url: str
) -> None:
    """Servers answer; what waits, nobody sees to."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in NEGLECTED:
            connection.execute(statement)
    client.insert(make_pattern())
    client.batch_insert([make_pattern()])
    with redis.Redis.from_url(redis_url) as server:
        server.lpush("storage.unreadable", "one", "two")
    said = doctor(
        "--json", DATABASE_URL=database_url, REDIS_URL=redis_url, PATTERN_STORAGE_FLOWER_PASSWORD="password",
        PATTERN_STORAGE_FLOWER_PORT="1",
    )  # fmt: skip
    found = found_wrong(said)
    subjects = (
        "relay",
        "beat",
        "dead letters",
        "import nightly",
        "queue storage",
        "queue batch",
        "refused messages",
        "Flower",
    )
    assert [subject for subject in subjects if subject in found] == list(subjects)
    assert found["dead letters"]["found"] == "1"
    assert found["queue storage"]["found"].startswith("paused by ann since ")
    assert found["queue storage"]["advice"] == "'pattern-storage queues resume storage'"
    # It has waited for no second; but nothing would ever take it.
    assert found["queue batch"]["found"].endswith("and no worker that answers takes from it")
    assert found["refused messages"]["found"] == "2 messages in the Redis list storage.unreadable"
    assert "queue imports" not in found
    assert "imports" not in found


@pytest.mark.parametrize(
    ("waiting", "seconds", "served", "ok", "advice"),
    [
        (1, 10, True, True, ""),
        (1, 10, False, False, "start one: 'celery -A pattern_storage worker -Q batch'"),
        (0, None, False, True, ""),
        (1, 400, True, False, "start more workers, or look at what they do"),
    ],
)
def test_a_queue(waiting: int, seconds: float | None, served: bool, ok: bool, advice: str) -> None:
    oldest = None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)
    finding = _queue(QueueDepth("batch", waiting, 0, 0, oldest), None, served)
    assert (finding.subject, finding.ok, finding.advice) == ("queue batch", ok, advice)


def test_refused_messages_on_rabbitmq() -> None:
    settings = load_settings(database_url="postgresql://host/db", redis_url="redis://host", broker_url="amqp://host//")
    [finding] = _refused(settings, ["storage"])
    assert "RabbitMQ drops them without a dead letter exchange" in finding.found


NEGLECTED: tuple[LiteralString, ...] = (
    "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at)"
    " VALUES (gen_random_uuid(), '{}', 'connection_lost', 'gone', 5, now())",
    "INSERT INTO outbox (correlation_id, contract, created_at, publish_after)"
    " VALUES (gen_random_uuid(), '{}', now() - interval '1 hour', now() - interval '1 hour')",
    "INSERT INTO import_schedules (name, decided_until, looked_at)"
    " VALUES ('nightly', now(), now() - interval '1 hour')",
    "INSERT INTO import_runs (run_id, name, plan, state, finished_at)"
    " VALUES (gen_random_uuid(), 'nightly', '{}', 'failed', now())",
    "INSERT INTO pauses (kind, name, paused_by) VALUES ('queue', 'storage', 'ann')",
)


def test_everything_that_can_be_wrong_with_servers_that_answer(
    doctor: Callable[..., Said], empty_database_url: str, lone_valkey: EmbeddedValkey
) -> None:
    with redis.Redis.from_url(lone_valkey.url) as server:
        server.config_set("appendonly", "no")
        server.config_set("maxmemory-policy", "allkeys-lru")
    said = doctor("--json", DATABASE_URL=empty_database_url, REDIS_URL=lone_valkey.url)
    assert said.code == 1
    assert {subject: finding["advice"] for subject, finding in found_wrong(said).items()} == {
        "migrations": "run 'pattern-storage migrate'",
        "Redis (results and queue): persistence": "set 'appendonly yes', or a restart loses the jobs that wait",
        "Redis (results and queue): memory": (
            "set 'maxmemory-policy noeviction', or a full server drops jobs in silence"
        ),
        "workers": "start one: 'celery -A pattern_storage worker', or 'pattern-storage up'",
    }
    assert found_wrong(said)["migrations"]["found"] == f"none, needed {schema.head()}"
    assert found_wrong(said)["Redis (results and queue): memory"]["found"] == "maxmemory-policy allkeys-lru"

    table = doctor(DATABASE_URL=empty_database_url, REDIS_URL=lone_valkey.url)
    assert table.code == 1
    assert table.out.count("WRONG") == 4
    assert "'pattern-storage" in table.out
    assert "migrate'" in table.out


def test_servers_that_cannot_be_reached(doctor: Callable[..., Said]) -> None:
    said = doctor("--json", DATABASE_URL=ABSENT_POSTGRES, REDIS_URL=ABSENT_REDIS)
    assert said.code == 3
    assert {subject: finding["advice"] for subject, finding in found_wrong(said).items()} == {
        "PostgreSQL": "start PostgreSQL, or correct DATABASE_URL",
        "Redis (results and queue)": "start Redis or Valkey, or correct REDIS_URL",
        "workers": "see the lines above",
    }
    table = doctor(DATABASE_URL=ABSENT_POSTGRES, REDIS_URL=ABSENT_REDIS)
    assert table.code == 3
    assert table.out.count("WRONG") == 3
    assert table.err == ""
