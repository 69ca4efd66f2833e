"""`doctor` and `migrate`: what is wrong with a deployment, and what to do about it."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
from pattern_storage.tasks.cli.doctor_redis import _server
from pattern_storage.tasks.cli.doctor_service import _queue
from pattern_storage.tasks.cli.doctor_workers import ask_workers
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.installation_signs import KEPT, KEY, read_signs, sign
from pattern_storage.tasks.operate.queues import QueueDepth
from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli, Said
from tests.fix_loading import LoadingValkey, loading
from tests.fix_process import wait_until
from tests.fix_storage import make_pattern

NOBODY_REDIS = "redis://127.0.0.1:1"
NOBODY_POSTGRESQL = "postgresql://127.0.0.1:1/x"


@pytest.fixture
def doctor(cli: Cli) -> Callable[..., Said]:
    """The doctor, who does not wait long."""
    return lambda *arguments, **variables: cli("doctor", *arguments, PATTERN_STORAGE_CONNECT_TIMEOUT="1", **variables)


def wrong(said: Said) -> dict[str, dict[str, Any]]:
    """What it found to be wrong, by subject."""
    return {finding["subject"]: finding for finding in said.json if not finding["ok"]}


def test_all_is_well(doctor: Callable[..., Said], worker: StorageWorker) -> None:
    # What other tests on this worker left for an operator to see to.
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        for left in ("dead_letters", "import_runs", "import_schedules", "outbox"):
            connection.execute(SQL("DELETE FROM {}").format(Identifier(left)))
    with redis.Redis.from_url(worker.redis_url) as server:
        before = server.config_get("appendonly")
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
    assert found["Redis, results and queue"].startswith("Valkey ")
    assert worker.hostname() in found["workers"]
    settings = load_settings(**{name.lower(): url for name, url in urls.items()})
    assert wait_until(lambda: ask_workers(settings).queues, "the worker tells its queues") == set(QUEUES)
    assert table.code == 0
    assert sum(line.startswith("ok") for line in table.out.splitlines()) == len(said.json) == 16
    assert "WRONG" not in table.out
    assert all(set(finding) == {"subject", "ok", "found", "advice", "unreachable"} for finding in said.json)


def test_a_second_installation_on_the_same_redis(
    doctor: Callable[..., Said], worker: StorageWorker, database_url: str, empty_database_url: str
) -> None:
    """Its workers take our jobs, and nothing fails."""

    def found(url: str, **variables: str) -> dict[str, Any] | None:
        said = doctor("--json", DATABASE_URL=url, REDIS_URL=worker.redis_url, **variables)
        return wrong(said).get("installation")

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
        server.zadd(KEY, signs | unreadable | old)
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
        assert f"database {database}" not in str(wrong(said).get("installation")), own


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
    said = doctor(
        "--json", DATABASE_URL=database_url, REDIS_URL=redis_url, PATTERN_STORAGE_FLOWER_PASSWORD="password",
        PATTERN_STORAGE_FLOWER_PORT="1",
    )  # fmt: skip
    found = wrong(said)
    subjects = ("relay", "beat", "dead letters", "import nightly", "queue storage", "queue batch", "Flower")
    assert [subject for subject in subjects if subject in found] == list(subjects)
    assert found["dead letters"]["found"] == "1"
    assert found["queue storage"]["found"].startswith("paused by ann since ")
    assert found["queue storage"]["advice"] == "'pattern-storage queues resume storage'"
    # It has waited for no second; but nothing would ever take it.
    assert found["queue batch"]["found"].endswith("and no worker that answers takes from it")
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
    assert {subject: finding["advice"] for subject, finding in wrong(said).items()} == {
        "migrations": "run 'pattern-storage migrate'",
        "Redis, results and queue: persistence": "set 'appendonly yes', or a restart loses the jobs that wait",
        "Redis, results and queue: memory": (
            "set 'maxmemory-policy noeviction', or a full server drops jobs in silence"
        ),
        "workers": "start one: 'celery -A pattern_storage worker', or 'pattern-storage up'",
    }
    assert wrong(said)["migrations"]["found"] == f"none, needed {schema.head()}"
    assert wrong(said)["Redis, results and queue: memory"]["found"] == "maxmemory-policy allkeys-lru"

    table = doctor(DATABASE_URL=empty_database_url, REDIS_URL=lone_valkey.url)
    assert table.code == 1
    assert table.out.count("WRONG") == 4
    assert "'pattern-storage" in table.out
    assert "migrate'" in table.out


def test_what_is_wrong_with_redis(doctor: Callable[..., Said], database_url: str, lone_valkey: EmbeddedValkey) -> None:
    """Addresses are in test_redis_addresses.py, rights in test_redis_rights.py."""
    with redis.Redis.from_url(lone_valkey.url) as server:
        server.set("batch", "theirs")
        server.config_set("maxclients", "5")
        server.config_set("min-replicas-to-write", "1")
        others = [redis.Redis.from_url(lone_valkey.url, single_connection_client=True) for _ in range(3)]
        found = wrong(doctor("--json", DATABASE_URL=database_url, REDIS_URL=lone_valkey.url))
        for each in others:
            each.close()
    subject = "Redis, results and queue"
    assert "too few replicas are connected" in found[f"{subject}: writes"]["found"]
    assert found[f"{subject}: keys"]["found"] == "the key batch holds a string, not a list"
    assert "PATTERN_STORAGE_KEY_PREFIX" in found[f"{subject}: keys"]["advice"]
    assert found[f"{subject}: connections"]["found"] == "5 of 5"


def test_a_redis_that_loads_or_has_no_connection_left(
    doctor: Callable[..., Said], database_url: str, loading_valkey: LoadingValkey
) -> None:
    """It runs: starting it is no advice."""
    subject = "Redis, results and queue"
    urls = {"DATABASE_URL": database_url, "REDIS_URL": loading_valkey.url}
    with loading(loading_valkey):
        loads = wrong(doctor("--json", **urls))
    assert "it is loading its data" in loads[f"{subject}: writes"]["found"]
    with redis.Redis.from_url(loading_valkey.url, single_connection_client=True) as only:
        only.config_set("maxclients", "1")
        full = wrong(doctor("--json", **urls))
        only.config_set("maxclients", "100")
    assert "it has too many clients" in full[f"{subject}: writes"]["found"]
    assert not any("start Redis" in finding["advice"] for finding in (*loads.values(), *full.values()))


def test_servers_that_cannot_be_reached(doctor: Callable[..., Said]) -> None:
    said = doctor("--json", DATABASE_URL=NOBODY_POSTGRESQL, REDIS_URL=NOBODY_REDIS)
    assert said.code == 3
    assert {subject: finding["advice"] for subject, finding in wrong(said).items()} == {
        "PostgreSQL": "start PostgreSQL, or correct DATABASE_URL",
        "Redis, results and queue": "start Redis or Valkey, or correct REDIS_URL",
        "workers": "see the lines above",
    }
    table = doctor(DATABASE_URL=NOBODY_POSTGRESQL, REDIS_URL=NOBODY_REDIS)
    assert table.code == 3
    assert table.out.count("WRONG") == 3
    assert table.err == ""


def test_queue_and_results_are_looked_at_apart(
    doctor: Callable[..., Said], database_url: str, lone_valkey: EmbeddedValkey
) -> None:
    urls = {"DATABASE_URL": database_url, "RESULT_BACKEND_URL": lone_valkey.url}
    said = doctor("--json", BROKER_URL=NOBODY_REDIS, **urls)
    assert (said.code, set(wrong(said)) >= {"Redis, queue", "workers"}) == (3, True)
    assert "Redis, results" not in wrong(said)
    # RabbitMQ is no Redis to look into; that nobody is there is found by asking for workers.
    said = doctor("--json", BROKER_URL="amqp://127.0.0.1:1", **urls)
    assert said.code == 3
    assert "Redis, queue" not in {finding["subject"] for finding in said.json}
    assert wrong(said)["workers"]["unreachable"]


@pytest.mark.parametrize("version", ["5.0.14", "6.0", "6.2.0", "7.4.1", "10.0.0"])
def test_a_redis_that_is_too_old(version: str) -> None:
    first = next(_server("Redis", {"redis_version": version, "aof_enabled": 1, "maxmemory_policy": "noeviction"}))
    assert first.ok == (version not in ("5.0.14", "6.0"))
    assert first.found == f"Redis {version}"
    assert first.advice == ("" if first.ok else "upgrade to 6.2 or later")


def test_a_wrong_password_is_not_taken_for_a_server_that_is_down(
    doctor: Callable[..., Said], lone_valkey: EmbeddedValkey
) -> None:
    url = lone_valkey.url.replace("@", "wrong@")
    said = doctor("--json", DATABASE_URL=NOBODY_POSTGRESQL, REDIS_URL=url)
    assert said.code == 3
    found = wrong(said)["Redis, results and queue"]["found"]
    assert "password" in found
    assert url not in said.out


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        ("DATABASE_URL", "postgresql://u:pa55@127.0.0.1:1/x?foo=bar", "has the parameter 'foo'"),
        ("DATABASE_URL", "postgresql://u:pa55@127.0.0.1:1/x?sslmode=bogus", "cannot be used: invalid sslmode value"),
        ("REDIS_URL", "redis://:pa55@127.0.0.1:1/0?foo=bar", "has the parameter 'foo'"),
        ("REDIS_URL", "redis://:pa55@127.0.0.1:1/abc", "has the database 'abc'"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [("doctor",), ("relay",), ("query",), ("dead-letters", "list"), ("health", "worker"), ("up",), ("migrate",)],
    ids=" ".join,
)
def test_a_wrong_url_is_bad_input_to_every_command(
    cli: Cli, command: tuple[str, ...], variable: str, url: str, says: str
) -> None:
    urls: dict[str, Any] = {"DATABASE_URL": NOBODY_POSTGRESQL, "REDIS_URL": NOBODY_REDIS} | {variable: url}
    said = cli(*command, **urls)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith(f"Error: {variable} {says}")
    assert "pa55" not in said.err


def test_migrate_up_and_down(cli: Cli, empty_database_url: str) -> None:
    url: dict[str, Any] = {"DATABASE_URL": empty_database_url}
    head = schema.head()
    assert cli("migrate", **url) == Said(0, f"schema: empty -> {head}\n", "")
    assert cli("migrate", **url) == Said(0, f"schema: {head} -> {head}\n", "")
    said = cli("migrate", "--down-to", "nonsense", **url)
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith("Error: The schema cannot go back to revision 'nonsense'; it should be an earlier one")
    assert said.error.endswith(f"{head}, or 'base'")
    assert cli("migrate", "--down-to", "-99", **url).code == 2
    assert schema.current(empty_database_url) == head
    assert cli("migrate", "--down-to", "base", **url) == Said(0, f"schema: {head} -> empty\n", "")
    assert cli("migrate", "--down-to", "base", **url) == Said(0, "schema: empty -> empty\n", "")
    assert cli("migrate", **url).code == 0
