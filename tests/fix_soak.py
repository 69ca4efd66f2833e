"""Jobs of a soak: what clients know of each, and the comparison with ledger and table when all of them have ended."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, LiteralString
from uuid import UUID

import redis

from pattern_storage.storage import ModelContractPatternStorage, ModelResult
from pattern_storage.vocabulary import OperationName
from tests.fix_invariant import VERBS
from tests.fix_load import Load
from tests.fix_process import DEADLINE

#: Failures that the clients ask for, and what a process that is stopped for seconds may come to.
FAILURES = {"unique_violation", "version_conflict", "revoked", "time_limit_exceeded"}

COUNTED = """
SELECT pattern_id, usage_count, (
    SELECT count(*) FROM job_ledger
    WHERE operation = 'update' AND state = 'SUCCESS' AND result #>> '{data,pattern_id}' = pattern_id::text
) AS updates
FROM unnest(%s::uuid[]) AS pattern_id LEFT JOIN pattern_templates ON id = pattern_id
"""


@dataclass
class SoakJob:
    """What clients know of a job."""

    #: Rows that it changes, by trigger operation, if it succeeds.
    effect: dict[str, int]
    #: Whether a client was told that it exists; None if the client itself rolled it back.
    accepted: bool | None
    #: Whether its only copy is in Redis, and whether Redis is known to have that on disk.
    only_in_redis: bool = False
    on_disk: bool = False
    is_query: bool = False
    is_cancelled: bool = False
    #: What clients got as its result.
    results: list[ModelResult] = field(default_factory=list)


class SoakJobs(dict[UUID, SoakJob]):
    """All jobs by id."""

    def note(
        self, contracts: Iterable[ModelContractPatternStorage], accepted: bool | None, *, only_in_redis: bool = False
    ) -> None:
        """Note that these were submitted, perhaps again."""
        for one in contracts:
            is_query = one.operation == OperationName.QUERY
            effect = {} if is_query else {VERBS[one.operation]: len(one.patterns) or 1}
            job = self.setdefault(one.correlation_id, SoakJob(effect, accepted, only_in_redis, is_query=is_query))
            job.accepted = accepted or job.accepted

    def note_disk(self, redis_url: str) -> None:
        """Note which jobs Redis has on disk: with `appendfsync everysec` it may lose others."""
        accepted = [job for job in list(self.values()) if job.accepted and not job.on_disk]
        with suppress(redis.RedisError), redis.Redis.from_url(redis_url, socket_timeout=DEADLINE) as store:
            # WAITAOF is about the writes of its own connection, which come after those of the jobs.
            store.set("soak", 1)
            if store.execute_command("WAITAOF", 1, 0, 5_000)[0] == 1:
                for job in accepted:
                    job.on_disk = True


class SoakCheck:
    """Compares every job with ledger and table; `wrong` has a line for each difference, `ends` the jobs by outcome.

    Args:
        load: the servers.
        jobs: of all clients.
        may_lose: whether Redis may have lost what it had not written to disk.
    """

    def __init__(self, load: Load, jobs: SoakJobs, *, may_lose: bool) -> None:
        self._load, self._may_lose = load, may_lose
        self.wrong: list[str] = []
        self.ends: Counter[str] = Counter()
        self._ledger = {row["correlation_id"]: row["result"] for row in self._rows("SELECT * FROM job_ledger")}
        self._changed: dict[str, dict[str, int]] = {}
        for row in self._rows("SELECT job, operation, count(*) AS rows FROM effects GROUP BY 1, 2"):
            self._changed.setdefault(row["job"], {})[row["operation"]] = row["rows"]
        counted = self._rows("SELECT source, count(*) AS rows FROM pattern_templates GROUP BY 1")
        self._left = {row["source"]: row["rows"] for row in counted}
        for correlation_id, job in jobs.items():
            self._compare(correlation_id, job)

    def _rows(self, statement: LiteralString, *values: Any) -> list[dict[str, Any]]:
        with self._load.connect() as connection:
            return connection.execute(statement, values).fetchall()

    def _compare(self, correlation_id: UUID, job: SoakJob) -> None:
        result, changed = self._ledger.pop(correlation_id, None), self._changed.pop(str(correlation_id), {})
        about = f"{correlation_id} {job}; the ledger has {result}"
        expected = job.effect if result and result["success"] else {}
        if changed != expected:
            self.wrong.append(f"it changed {changed}: {about}")
        if "INSERT" in expected and self._left.get(str(correlation_id)) != expected["INSERT"]:
            self.wrong.append(f"it left {self._left.get(str(correlation_id))} rows: {about}")
        if job.is_query:
            self._compare_query(correlation_id, job, about)
            return
        if result is None:
            self._compare_absent(job, about)
            return
        self.ends[result["metadata"].get("error_type") or "done"] += 1
        if job.accepted is None or not (result["success"] or result["metadata"]["error_type"] in FAILURES):
            self.wrong.append(f"it has ended: {about}")
        for told in (*job.results, self._load.client.get(correlation_id).result(DEADLINE)):
            # Not their sentences: that of a cancelled job is another where PostgreSQL could not be asked.
            error_types = told.metadata.get("error_type"), result["metadata"].get("error_type")
            if (told.success, told.data, error_types[0]) != (result["success"], result["data"], error_types[1]):
                self.wrong.append(f"a client was told {told}: {about}")

    def _compare_absent(self, job: SoakJob, about: str) -> None:
        """A job that the ledger does not have was never accepted, or Redis has lost it."""
        may_be_absent = not job.accepted or (job.only_in_redis and self._may_lose and not job.on_disk)
        if job.results or not may_be_absent:
            self.wrong.append(f"it is lost: {about}")
        else:
            self.ends["lost by Redis" if job.accepted else "never accepted"] += 1

    def _compare_query(self, correlation_id: UUID, job: SoakJob, about: str) -> None:
        """A query is in the ledger if it was cancelled, and may have had a result before."""
        self.ends["query"] += 1
        if job.accepted and (job.on_disk or not self._may_lose):
            result = self._load.client.get(correlation_id).result(DEADLINE)
            if not (result.success or result.metadata["error_type"] in FAILURES):
                self.wrong.append(f"it has ended with {result}: {about}")

    def check_rest(self, counters: list[UUID], scheduled: str, rows: int) -> None:
        """Compare what no client's job did: a scheduled import of so many rows, and the sum of updates of counters."""
        if (changed := self._changed.pop(scheduled, {})) not in ({}, {"INSERT": rows}):
            self.wrong.append(f"{scheduled} changed {changed}")
        self.wrong += [f"{job}, which nobody submitted, changed {changed}" for job, changed in self._changed.items()]
        runs = {row["run_id"] for row in self._rows("SELECT run_id FROM import_runs WHERE name = %s", scheduled)}
        self.wrong += [f"{job}, which nobody submitted, is in the ledger" for job in self._ledger.keys() - runs]
        self.wrong += [f"{row}" for row in self._rows(COUNTED, counters) if row["usage_count"] != row["updates"]]
