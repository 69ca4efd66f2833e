"""The one check of what must be true of jobs after any fault, once all of them have ended.

The invariant: each accepted job is done once, failed with a reason, or a dead letter, in exactly one of these.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import redis

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.tasks.client.result_document import parse_result
from pattern_storage.vocabulary import FINAL_STATES

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


class Invariant:
    """What became of jobs: whether all have ended, and each in exactly one place with exactly its effect."""

    def __init__(
        self,
        store: redis.Redis,
        connection: psycopg.Connection[Any],
        accepted: dict[UUID, ModelContractPatternStorage],
        in_doubt: dict[UUID, ModelContractPatternStorage],
    ) -> None:
        self._store, self._connection = store, connection
        self._accepted, self._in_doubt = accepted, in_doubt

    def ended(self) -> bool:
        """Whether every job has a final state, and no message and no transaction is left."""
        if any(messages(self._store).values()):
            return False
        metas = self._store.mget([f"celery-task-meta-{job}" for job in self._accepted])
        final = all(meta and json.loads(meta)["status"] in FINAL_STATES for meta in metas)
        return final and not open_transactions(self._connection)

    def left(self) -> str:
        """Say what has not ended."""
        unfinished = {}
        for job in self._accepted:
            meta = self._store.get(f"celery-task-meta-{job}")
            status = json.loads(meta)["status"] if meta else None
            if status not in FINAL_STATES:
                unfinished[str(job)] = status
        known = {
            str(row["correlation_id"]) for row in self._connection.execute("SELECT correlation_id FROM job_ledger")
        }
        without = [job for job in unfinished if job not in known]
        return (
            f"messages {messages(self._store)}; open transactions {open_transactions(self._connection)};"
            f" {len(unfinished)} jobs without an end, {len(without)} of them not in the ledger: "
            f"{list(unfinished.items())[:5]}"
        )

    def check(self) -> Outcomes:
        """Count the outcomes; each job that breaks the invariant is said."""
        ledger = {row["correlation_id"]: row["result"] for row in self._connection.execute("SELECT * FROM job_ledger")}
        letters = {row["correlation_id"]: row for row in self._connection.execute("SELECT * FROM dead_letters")}
        wrong: list[str] = []
        outcomes = Outcomes()
        for job, asked in (self._accepted | self._in_doubt).items():
            meta = self._store.get(f"celery-task-meta-{job}")
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
            if job in self._in_doubt and not found:
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
            wrong += self._wrong_effect(asked, done=found[0] == "done")
        attempts = [
            row["correlation_id"] for row in self._connection.execute("SELECT correlation_id FROM job_attempts")
        ]
        # A job that ended outside of PostgreSQL, at a time limit, may leave its count; so may a copy that was counted
        # and killed in the moment in which another one ended. Housekeeping removes them.
        left = [job for job in attempts if job in ledger]
        if len(left) > 1 + len(self._accepted) // 100:
            wrong += [f"{job} has ended and its attempts are still counted" for job in left]
        assert not wrong, "\n".join([f"{len(wrong)} of {len(self._accepted)}:", *wrong[:20]])
        return outcomes

    def _wrong_effect(self, asked: ModelContractPatternStorage, *, done: bool) -> list[str]:
        """What the job changed, if that is anything but once or nothing."""
        job = str(asked.correlation_id)
        verb, rows = VERBS[asked.operation], len(asked.patterns) or 1
        cursor = self._connection.execute(
            "SELECT operation, count(*) AS rows FROM effects WHERE job = %s GROUP BY 1", [job]
        )
        effects = {row["operation"]: row["rows"] for row in cursor}
        expected = {verb: rows} if done else {}
        if effects != expected:
            return [f"{asked.operation} {job} changed {effects} instead of {expected}"]
        if verb == "DELETE":
            left = self._connection.execute(
                "SELECT id FROM pattern_templates WHERE id = %s", [asked.pattern_id]
            ).fetchall()
            return [f"delete {job} left its pattern"] if done and left else []
        there = self._connection.execute(
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
