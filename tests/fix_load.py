"""Jobs under faults: `Load` submits them, and `Load.settle` waits for their end and checks the invariant."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.rows import dict_row

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.tasks.client import BrokerUnavailable, PatternStorageClient
from tests.fix_invariant import Invariant, Outcomes
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

#: Writes down every attempt that is counted; the count of a job goes when it ends.
WATCH_ATTEMPTS = """
CREATE TABLE counted_attempts (job uuid, deliveries integer);
CREATE FUNCTION note_attempt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO counted_attempts VALUES (NEW.correlation_id, NEW.deliveries);
    RETURN NULL;
END $$;
CREATE TRIGGER note_attempt AFTER INSERT OR UPDATE ON job_attempts FOR EACH ROW EXECUTE FUNCTION note_attempt();
"""

SEED = """
INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code, source)
SELECT 'seed ' || job, 'function', 'python', 'pass', job FROM unnest(%s::text[]) AS job RETURNING source, id
"""


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

    def watch_attempts(self) -> None:
        """Write down from now on which attempts are counted."""
        with self.connect() as connection:
            connection.execute(WATCH_ATTEMPTS)

    def counted(self) -> dict[UUID, int]:
        """Jobs whose attempts were counted since `watch_attempts`, whether they have ended or not, and how many."""
        with self.connect() as connection:
            found = connection.execute("SELECT job, max(deliveries) AS deliveries FROM counted_attempts GROUP BY 1")
            return {row["job"]: row["deliveries"] for row in found}

    def transactions(self) -> int:
        """In how many transactions the ends of jobs were recorded."""
        with self.connect() as connection:
            row = connection.execute("SELECT count(DISTINCT xmin::text) AS number FROM job_ledger").fetchone()
            assert row
            return int(row["number"])

    def statuses(self) -> Counter[str]:
        return Counter(self.client.get(job).status() for job in self.accepted)

    # --- the check ---

    def settle(self, timeout: float = 60.0) -> Outcomes:
        """Wait until every job has ended and its last message is gone, and check the invariant."""
        with redis.Redis.from_url(self.redis_url) as store, self.connect() as connection:
            invariant = Invariant(store, connection, self.accepted, self.in_doubt)
            try:
                wait_until(invariant.ended, "every job has ended", timeout)
            except AssertionError as error:
                raise AssertionError(f"{error}; {invariant.left()}") from None
            return invariant.check()


@pytest.fixture
def load(database_url: str, redis_url: str) -> Iterator[Load]:
    """Jobs on this test's database and Redis."""
    with closing(Load(database_url, redis_url)) as opened:
        yield opened
