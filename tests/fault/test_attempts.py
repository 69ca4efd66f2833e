"""Failures that may pass are tried again, a bounded number of times; failures that stay are not."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier, Literal

from pattern_storage.storage import ModelContractPatternStorage
from tests.fix_celery import BLOCKED, locked_patterns, worker_connections
from tests.fix_faults import SAFE, SOON, STOCK, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until
from tests.fix_servers import WORKER, on_database

MAX_ATTEMPTS = 3
ENVIRONMENT = SOON | STOCK | {"PATTERN_STORAGE_MAX_ATTEMPTS": str(MAX_ATTEMPTS)}

#: Fails a job's statement with the SQLSTATE in `category`, as many times as `complexity_score` says. Attempts are
#: counted by a sequence: what it counts does not roll back. A try in a group, whose sessions wait for locks for 0.2 s,
#: fails as well, and is no attempt.
FAILING = """
CREATE FUNCTION fail_on_purpose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('lock_timeout') = '200ms' OR nextval('"' || NEW.source || '"') <= NEW.usage_count THEN
        RAISE EXCEPTION 'on purpose' USING ERRCODE = NEW.category;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail_on_purpose BEFORE INSERT ON pattern_templates
    FOR EACH ROW WHEN (NEW.category IS NOT NULL) EXECUTE FUNCTION fail_on_purpose();
"""
TRANSIENT = {
    "40001": "transaction_conflict",
    "40P01": "transaction_conflict",
    "55P03": "transaction_conflict",
    "53300": "server_unavailable",
    "53200": "server_unavailable",
    "57P03": "server_unavailable",
    "08006": "connection_lost",
    "57014": "statement_timeout",
    "42P01": "schema_mismatch",
    "XX000": "internal_error",
}
PERMANENT = {
    "22003": "validation_error",
    "23514": "validation_error",
}


def failing(load: Load, state: str, times: int) -> ModelContractPatternStorage:
    """A job that fails so many times."""
    job = load.insert()
    job.data |= {"category": state, "usage_count": times}
    with load.connect() as connection:
        connection.execute(SQL("CREATE SEQUENCE {}").format(Identifier(str(job.correlation_id))))
    return job


def attempts_of(load: Load, job: UUID) -> int:
    with load.connect() as connection:
        row = connection.execute(SQL("SELECT last_value FROM {}").format(Identifier(str(job)))).fetchone()
        assert row
        return int(row["last_value"])


def test_each_kind_of_failure(launch: Launch, load: Load) -> None:
    """Twelve SQLSTATEs: transient ones are tried again until they pass or the attempts are used up."""
    with load.connect() as connection:
        connection.execute(FAILING)
    passing = {state: failing(load, state, MAX_ATTEMPTS - 1) for state in TRANSIENT}
    lasting = {state: failing(load, state, 99) for state in TRANSIENT}
    permanent = {state: failing(load, state, 99) for state in PERMANENT}
    load.submit([*passing.values(), *lasting.values(), *permanent.values()])
    worker = launch(load.database_url, load.redis_url, env=ENVIRONMENT)
    outcomes = load.settle()
    assert outcomes.counts == {"done": len(passing), "dead letter": len(lasting), "failed": len(permanent)}
    with load.connect() as connection:
        letters = {row["correlation_id"]: row for row in connection.execute("SELECT * FROM dead_letters")}
    for state, job in passing.items():
        assert (state, attempts_of(load, job.correlation_id)) == (state, MAX_ATTEMPTS)
        assert worker.logs().count(f"[{job.correlation_id}] retry: Retry in") == MAX_ATTEMPTS - 1
    for state, job in lasting.items():
        assert (state, attempts_of(load, job.correlation_id)) == (state, MAX_ATTEMPTS)
        letter = letters[job.correlation_id]
        assert (letter["error_type"], letter["attempts"]) == (TRANSIENT[state], MAX_ATTEMPTS)
        assert letter["error"].endswith("on purpose")
        result = load.client.get(job.correlation_id).result(DEADLINE)
        assert (result.error, result.metadata["error_type"]) == (letter["error"], TRANSIENT[state])
        assert (result.metadata["dead_letter"], result.metadata["attempts"]) == (True, MAX_ATTEMPTS)
        assert "retryable" not in result.metadata
    for state, job in permanent.items():
        assert (state, attempts_of(load, job.correlation_id)) == (state, 1)
        result = load.client.get(job.correlation_id).result(DEADLINE)
        assert (result.metadata["error_type"], "attempts" in result.metadata) == (PERMANENT[state], False)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("size", ["1", "2"])
def test_as_few_connections_as_may_be(launch: Launch, load: Load, pool: str, size: str) -> None:
    """One connection for jobs that go alone, of a process without groups or with: attempts are counted all the same."""
    with load.connect() as connection:
        connection.execute(FAILING)
    lasting = [failing(load, "40001", 99) for _ in range(4)]
    load.submit(lasting)
    sizes = {"PATTERN_STORAGE_POOL_MIN_SIZE": "1", "PATTERN_STORAGE_POOL_MAX_SIZE": size}
    worker = launch(load.database_url, load.redis_url, pool=pool, env=ENVIRONMENT | sizes)
    outcomes = load.settle()
    assert outcomes.counts == {"dead letter": len(lasting)}
    with load.connect() as connection:
        letters = connection.execute("SELECT attempts FROM dead_letters").fetchall()
    assert [row["attempts"] for row in letters] == [MAX_ATTEMPTS] * len(lasting)
    assert "cannot count" not in worker.logs()


def setting(load: Load, name: str, value: str) -> None:
    """Set it for all connections that are opened from now on."""
    with load.connect() as connection:
        row = connection.execute("SELECT current_database() AS name").fetchone()
        assert row
        connection.execute(
            SQL("ALTER DATABASE {} SET {} = {}").format(Identifier(row["name"]), Identifier(name), Literal(value))
        )


def waits(load: Load) -> None:
    wait_until(lambda: worker_connections(load.database_url, BLOCKED), "the job waits for the row")


#: Connections that have waited for longer than a group would.
BLOCKED_ALONE = SQL("wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '0.5 s'")


def one_update(load: Load) -> ModelContractPatternStorage:
    return next(one for one in load.mixed(30) if one.operation == "update")


class TestRealConflicts:
    """The three that PostgreSQL reports by itself, with a session that stands in the way."""

    def test_lock_timeout(self, launch: Launch, load: Load) -> None:
        limits = {"PATTERN_STORAGE_LOCK_TIMEOUT": "0.2", "PATTERN_STORAGE_MAX_ATTEMPTS": "5"}
        worker = launch(load.database_url, load.redis_url, env=ENVIRONMENT | limits)
        jobs = [one_update(load), one_update(load)]
        passing, lasting = (one.correlation_id for one in jobs)
        with load.connect() as lasts, lasts.transaction():
            lasts.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [jobs[1].pattern_id])
            with load.connect() as passes, passes.transaction():
                passes.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [jobs[0].pattern_id])
                load.submit(jobs)
                wait_until(lambda: f"[{passing}] retry: Retry in" in worker.logs(), "it is tried again")
            assert load.client.get(passing).result(DEADLINE).success
            result = load.client.get(lasting).result(DEADLINE)
        assert (result.metadata["error_type"], result.metadata["attempts"]) == ("transaction_conflict", 5)
        assert str(result.error).endswith("canceling statement due to lock timeout")
        outcomes = load.settle()
        assert outcomes.counts == {"done": 1, "dead letter": 1}

    def test_serialization_failure(self, launch: Launch, load: Load) -> None:
        setting(load, "default_transaction_isolation", "repeatable read")
        worker = launch(load.database_url, load.redis_url, env=ENVIRONMENT)
        job = one_update(load)
        with load.connect() as other, other.transaction():
            other.execute("SET LOCAL session_replication_role = replica")  # this is no job's effect
            other.execute("UPDATE pattern_templates SET category = 'x' WHERE id = %s", [job.pattern_id])
            load.submit([job])
            waits(load)
        outcomes = load.settle()
        assert outcomes.counts == {"done": 1}
        assert "could not serialize access due to concurrent update" in worker.logs()

    def test_deadlock(self, launch: Launch, load: Load) -> None:
        """The job's process is the one that finds out, so it is the one that gives way."""
        job = one_update(load)
        with load.connect() as other:
            other.execute("SET deadlock_timeout = '60s'")
            other.execute("CREATE TABLE gate (id integer); INSERT INTO gate VALUES (1)")
            other.execute(
                "CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM FROM gate FOR UPDATE; RETURN NEW; END $$;"
                "CREATE TRIGGER pass_gate AFTER UPDATE ON pattern_templates FOR EACH ROW EXECUTE FUNCTION pass_gate()"
            )
            # Time for what follows.
            setting(load, "deadlock_timeout", "3s")
            worker = launch(load.database_url, load.redis_url, env=ENVIRONMENT)
            with other.transaction():
                other.execute("SELECT FROM gate FOR UPDATE")
                load.submit([job])
                # A group gives up its locks before PostgreSQL looks for a deadlock; then the job goes alone.
                wait_until(lambda: worker_connections(load.database_url, BLOCKED_ALONE), "the job waits for the gate")
                other.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [job.pattern_id])
        outcomes = load.settle()
        assert outcomes.counts == {"done": 1}
        assert "deadlock detected" in worker.logs()

    def test_too_many_connections(self, launch: Launch, load: Load) -> None:
        """A role that may not connect for a while; superusers always may, so it is another one."""
        role = f"storage_{WORKER}"
        name = Identifier(role)
        with load.connect() as admin:
            admin.execute(SQL("DROP ROLE IF EXISTS {}").format(name))
            admin.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(name))
            admin.execute(SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(name))
            url = psycopg.conninfo.make_conninfo(load.database_url, user=role, password="secret")
            parts: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
            server = "postgresql://{user}:{password}@{host}:{port}".format(**parts)
            worker = launch(on_database(server, parts["dbname"]), load.redis_url, env=ENVIRONMENT)
            load.submit(load.mixed(10))
            load.wait_done(10)
            admin.execute(SQL("ALTER ROLE {} CONNECTION LIMIT 0").format(name))
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
            more = load.mixed(10)
            load.submit(more)
            wait_until(lambda: load.statuses()["RETRY"] > 0, "jobs wait")
            wait_until(lambda: "too many connections for role" in worker.logs(), "PostgreSQL says so")
            admin.execute(SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(name))
            outcomes = load.settle()
            assert outcomes.counts == {"done": 20}
            assert worker.container.status == "running"
            worker.stop()
            admin.execute(SQL("DROP OWNED BY {0}").format(name))
            admin.execute(SQL("DROP ROLE {}").format(name))


def redelivered(raw: bytes) -> str:
    """A message as the transport puts it back: the same job, delivered again."""
    message = json.loads(raw)
    message["properties"]["delivery_tag"] = str(uuid4())
    message["properties"]["delivery_info"]["redelivered"] = True
    return json.dumps(message)


def test_copies_that_run_at_once_are_no_attempts(launch: Launch, load: Load) -> None:
    """A message that waited too long comes several times: one copy commits, and the job is no dead letter."""
    job = load.insert()
    load.submit([job])
    with redis.Redis.from_url(load.redis_url) as store:
        raw: Any = store.rpop("storage")
        with locked_patterns(load.database_url):
            store.lpush("storage", *(redelivered(raw) for _ in range(6)))
            environment = SOON | SAFE | {"PATTERN_STORAGE_MAX_ATTEMPTS": "3", "PATTERN_STORAGE_LOCK_TIMEOUT": "5"}
            launch(load.database_url, load.redis_url, concurrency=6, env=environment)
            wait_until(lambda: len(worker_connections(load.database_url, BLOCKED)) == 6, "all copies have begun")
    outcomes = load.settle()
    assert outcomes.counts == {"done": 1}


def test_a_dead_letter_that_could_not_be_written_in_time(launch: Launch, load: Load) -> None:
    """It has the reason of the last attempt, which its message has brought along: no worker was killed."""
    waits = SOON | SAFE | {"PATTERN_STORAGE_MAX_ATTEMPTS": str(MAX_ATTEMPTS), "PATTERN_STORAGE_LOCK_TIMEOUT": "0.2"}
    begun = "SELECT FROM job_attempts WHERE deliveries > %s"
    with load.connect() as connection, locked_patterns(load.database_url):
        launch(load.database_url, load.redis_url, env=waits)
        connection.execute("ALTER TABLE dead_letters RENAME TO away")
        jobs = [load.client.submit(load.insert()), load.client.query(pattern_name="any")]
        wait_until(lambda: len(connection.execute(begun, [MAX_ATTEMPTS]).fetchall()) == 2, "both fail on and on")
        connection.execute("ALTER TABLE away RENAME TO dead_letters")
        for job in jobs:
            result = job.result(DEADLINE)
            assert result.metadata["dead_letter"]
            assert result.metadata["error_type"] in ("transaction_conflict", "schema_mismatch"), result
            assert "killed" not in str(result.error)
