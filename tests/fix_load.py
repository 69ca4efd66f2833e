"""Jobs under faults, and the one check of what must be true of them afterwards.

`Load` submits jobs and knows what each of them writes; `Load.settle` waits until every job has ended and checks the
invariant: each accepted job is done once, failed with a reason, or a dead letter, in exactly one of these.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.rows import dict_row

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.tasks.client import BrokerUnavailable, PatternStorageClient
from pattern_storage.tasks.client.result_document import parse_result
from pattern_storage.vocabulary import FINAL_STATES
from tests.fix_process import wait_until
from tests.fix_storage import contract, make_pattern

#: Writes down every row that a committed transaction changed, and for which job.
AUDIT = """
CREATE TABLE effects (job text, operation text);
CREATE FUNCTION note_effect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO effects VALUES (CASE TG_OP WHEN 'DELETE' THEN OLD.source ELSE NEW.source END, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER note_effect AFTER INSERT OR UPDATE OR DELETE ON pattern_templates
    FOR EACH ROW EXECUTE FUNCTION note_effect();
"""


SEED = """
INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code, source)
SELECT 'seed ' || job, 'function', 'python', 'pass', job FROM unnest(%s::text[]) AS job RETURNING source, id
"""


#: What Redis says of a job, by where it is.
STATUSES: dict[str, set[str | None]] = {
    "done": {"SUCCESS"},
    "failed": {"FAILURE", "REVOKED"},
    "dead letter": {"FAILURE"},
    "never accepted": {None, "QUEUED"},
}


VERBS = {"insert": "INSERT", "batch_insert": "INSERT", "update": "UPDATE", "delete": "DELETE"}


@dataclass
class Outcomes:
    """How many jobs ended how, and what their results say."""

    counts: Counter[str] = field(default_factory=Counter)
    error_types: Counter[str] = field(default_factory=Counter)
    replayed: int = 0


class Load:
    """Jobs for one database and one Redis, and the check of what became of them."""

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        connect_timeout: float = 5.0,
        client: PatternStorageClient | None = None,
    ) -> None:
        self.database_url, self.redis_url = database_url, redis_url
        # One that is given goes another way to the same servers, or has a queue elsewhere.
        self.client = client or PatternStorageClient(redis_url=redis_url, connect_timeout=connect_timeout)
        self.chance = random.Random(11)
        #: What submit has accepted, and what may have been accepted: BrokerUnavailable leaves that open.
        self.accepted: dict[UUID, ModelContractPatternStorage] = {}
        self.in_doubt: dict[UUID, ModelContractPatternStorage] = {}
        with self.connect() as connection:
            connection.execute(AUDIT)

    def connect(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self.client.close()

    # --- jobs ---

    def inserts(self, number: int) -> list[ModelContractPatternStorage]:
        return [self.insert() for _ in range(number)]

    def insert(self, name: str = "insert") -> ModelContractPatternStorage:
        job = uuid4()
        pattern = make_pattern(pattern_name=f"{name} {job}", source=str(job))
        return contract("insert", data=pattern, correlation_id=job)

    def batch(self, rows: int) -> ModelContractPatternStorage:
        job = uuid4()
        patterns = [make_pattern(pattern_name=f"batch {job} {row}", source=str(job)) for row in range(rows)]
        return contract("batch_insert", patterns=patterns, correlation_id=job)

    def mixed(self, number: int) -> list[ModelContractPatternStorage]:
        """Five inserts to three updates, a delete and a batch; each on rows of its own."""
        kinds = self.chance.choices(["insert", "update", "delete", "batch"], [5, 3, 1, 1], k=number)
        jobs = {str(uuid4()): kind for kind in kinds if kind in ("update", "delete")}
        seeds = self._seed(jobs)
        changes = iter(
            contract(
                kind, pattern_id=seeds[job], correlation_id=job,
                **({"data": {"source": job, "usage_count": index}} if kind == "update" else {}),
            )
            for index, (job, kind) in enumerate(jobs.items())
        )  # fmt: skip
        makers: dict[str, Callable[[], ModelContractPatternStorage]] = {
            "insert": self.insert,
            "batch": lambda: self.batch(self.chance.randint(2, 30)),
        }
        return [makers[kind]() if kind in makers else next(changes) for kind in kinds]

    def _seed(self, jobs: Iterable[str]) -> dict[str, UUID]:
        with self.connect() as connection, connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")  # not to be written down
            return {row["source"]: row["id"] for row in connection.execute(SEED, [list(jobs)])}

    def submit(self, contracts: Sequence[ModelContractPatternStorage]) -> None:
        """Submit them; those that the queue does not take now are in doubt."""
        try:
            self.client.submit_many(contracts)
        except BrokerUnavailable:
            self.in_doubt |= {one.correlation_id: one for one in contracts}
            raise
        self.accepted |= {one.correlation_id: one for one in contracts}

    # --- waiting ---

    def count(self, table: str) -> int:
        with self.connect() as connection:
            row = connection.execute(f"SELECT count(*) AS number FROM {table}").fetchone()
            assert row
            return int(row["number"])

    def wait_done(self, number: int) -> None:
        """Wait until so many jobs are in the ledger."""
        with self.connect() as connection:

            def enough() -> bool:
                row = connection.execute("SELECT count(*) AS number FROM job_ledger").fetchone()
                return row is not None and row["number"] >= number

            wait_until(enough, f"{number} jobs have ended")

    def statuses(self) -> Counter[str]:
        return Counter(self.client.get(job).status() for job in self.accepted)

    # --- the check ---

    def settle(self, timeout: float = 60.0) -> Outcomes:
        """Wait until every job has ended and its last message is gone, and check the invariant."""
        with redis.Redis.from_url(self.redis_url) as store, self.connect() as connection:
            try:
                wait_until(lambda: self._ended(store, connection), "every job has ended", timeout)
            except AssertionError as error:
                raise AssertionError(f"{error}; {self._left(store, connection)}") from None
            return self._check(store, connection)

    def _ended(self, store: redis.Redis, connection: psycopg.Connection[Any]) -> bool:
        if any(messages(store).values()):
            return False
        metas = store.mget([f"celery-task-meta-{job}" for job in self.accepted])
        return all(meta and json.loads(meta)["status"] in FINAL_STATES for meta in metas) and not open_transactions(
            connection
        )

    def _left(self, store: redis.Redis, connection: psycopg.Connection[Any]) -> str:
        unfinished = {}
        for job in self.accepted:
            meta = store.get(f"celery-task-meta-{job}")
            status = json.loads(meta)["status"] if meta else None
            if status not in FINAL_STATES:
                unfinished[str(job)] = status
        known = {str(row["correlation_id"]) for row in connection.execute("SELECT correlation_id FROM job_ledger")}
        without = [job for job in unfinished if job not in known]
        return (
            f"messages {messages(store)}; open transactions {open_transactions(connection)};"
            f" {len(unfinished)} jobs without an end, {len(without)} of them not in the ledger: "
            f"{list(unfinished.items())[:5]}"
        )

    def _check(self, store: redis.Redis, connection: psycopg.Connection[Any]) -> Outcomes:
        ledger = {row["correlation_id"]: row["result"] for row in connection.execute("SELECT * FROM job_ledger")}
        letters = {row["correlation_id"]: row for row in connection.execute("SELECT * FROM dead_letters")}
        wrong: list[str] = []
        outcomes = Outcomes()
        for job, asked in (self.accepted | self.in_doubt).items():
            meta = store.get(f"celery-task-meta-{job}")
            status = json.loads(meta)["status"] if meta else None
            result = parse_result(job, meta)
            entered = ledger.get(job)
            places: dict[str, bool] = {
                "done": entered is not None and entered["success"],
                "failed": (entered is not None and not entered["success"])
                or (entered is None and job not in letters and status in ("FAILURE", "REVOKED") and result is not None),
                "dead letter": job in letters,
            }
            found = [place for place, there in places.items() if there]
            if job in self.in_doubt and not found:
                found = ["never accepted"]
            if len(found) != 1:
                wrong.append(f"{asked.operation} {job} ({status}) is in {found or 'no place'}")
                continue
            outcomes.counts[found[0]] += 1
            if status not in STATUSES[found[0]]:
                wrong.append(f"{asked.operation} {job} is {found[0]}, but Redis says {status}: {result}")
            if result is not None:
                outcomes.error_types[str(result.metadata.get("error_type"))] += 1
                outcomes.replayed += bool(result.metadata.get("replayed"))
            wrong += self._wrong_effect(connection, asked, done=found[0] == "done")
        attempts = [row["correlation_id"] for row in connection.execute("SELECT correlation_id FROM job_attempts")]
        # A job that ended outside of PostgreSQL, at a time limit, may leave its count; so may a copy that was counted
        # and killed in the moment in which another one ended. Housekeeping removes them.
        left = [job for job in attempts if job in ledger]
        if len(left) > 1 + len(self.accepted) // 100:
            wrong += [f"{job} has ended and its attempts are still counted" for job in left]
        assert not wrong, "\n".join([f"{len(wrong)} of {len(self.accepted)}:", *wrong[:20]])
        return outcomes

    @staticmethod
    def _wrong_effect(
        connection: psycopg.Connection[Any], asked: ModelContractPatternStorage, *, done: bool
    ) -> list[str]:
        """What the job changed, if that is anything but once or nothing."""
        job = str(asked.correlation_id)
        verb, rows = VERBS[asked.operation], len(asked.patterns) or 1
        cursor = connection.execute("SELECT operation, count(*) AS rows FROM effects WHERE job = %s GROUP BY 1", [job])
        effects = {row["operation"]: row["rows"] for row in cursor}
        expected = {verb: rows} if done else {}
        if effects != expected:
            return [f"{asked.operation} {job} changed {effects} instead of {expected}"]
        if verb == "DELETE":
            left = connection.execute("SELECT id FROM pattern_templates WHERE id = %s", [asked.pattern_id]).fetchall()
            return [f"delete {job} left its pattern"] if done and left else []
        there = connection.execute(
            "SELECT DISTINCT pattern_name, usage_count FROM pattern_templates WHERE source = %s", [job]
        ).fetchall()
        if verb == "UPDATE":
            values = [row["usage_count"] for row in there]
            return [] if values == [asked.data["usage_count"] if done else 0] else [f"update {job} left {values}"]
        return [] if len(there) == (rows if done else 0) else [f"{asked.operation} {job} left {len(there)} rows"]


def messages(store: redis.Redis) -> dict[str, int]:
    """Where messages are, and how many."""
    keys = [f"{queue}{suffix}" for queue in ("storage", "batch") for suffix in ("", ".claimed")]
    return {key: int(store.llen(key)) for key in keys} | {"unacked": int(store.hlen(UNACKED_KEYS["unacked_key"]))}


def open_transactions(connection: psycopg.Connection[Any]) -> list[Any]:
    return connection.execute(
        "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL"
    ).fetchall()


@pytest.fixture
def load(database_url: str, redis_url: str) -> Iterator[Load]:
    """Jobs on this test's database and Redis."""
    with closing(Load(database_url, redis_url)) as opened:
        yield opened
