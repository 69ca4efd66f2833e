"""PostgreSQL and Valkey for all, emptied before each measurement, and counters of what was asked of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg.sql import SQL, Identifier

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.extract import harvest, standard_library
from pattern_storage.storage import schema

#: Different patterns to begin with; their names are changed for each job.
PATTERNS = 2_000
SHOWN_SETTINGS = (
    *("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_connections"),
    *("max_wal_size", "wal_buffers", "work_mem", "maintenance_work_mem", "effective_cache_size"),
)


@dataclass(frozen=True)
class Counts:
    """What the servers have been asked so far: Redis reads of a socket and commands, SQL statements and COMMITs."""

    redis_round_trips: int
    redis_commands: int
    statements: int
    transactions: int

    def per_job(self, before: "Counts", jobs: int) -> dict[str, float]:
        """Return the difference for each job."""
        return {name: (value - getattr(before, name)) / jobs for name, value in vars(self).items()}


class Servers:
    """Both servers and what a measurement asks them."""

    def __init__(self, database_url: str, redis_url: str, patterns: Path) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.patterns = patterns
        self.sql = psycopg.connect(database_url, autocommit=True)
        self.redis = redis.Redis.from_url(redis_url)

    def empty(self) -> None:
        """Remove all rows and keys, and write out what PostgreSQL has in memory, so that nobody pays for another."""
        self.redis.flushall()
        named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%version%'"
        tables = [Identifier(name) for (name,) in self.sql.execute(named)]
        self.sql.execute(SQL("TRUNCATE {} CASCADE").format(SQL(", ").join(tables)))
        self.sql.execute("CHECKPOINT")

    def rows(self) -> int:
        """Return how many patterns there are."""
        return self._number("SELECT /* bench */ count(*) FROM pattern_templates")

    def counts(self) -> Counts:
        """Return the counters, without what this class asks."""
        seen: Any = self.redis.info("stats")
        counted = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%/* bench */%'"
        return Counts(
            seen["total_reads_processed"],
            seen["total_commands_processed"],
            self._number(counted),
            self._number(counted + " AND query ILIKE 'commit%'"),
        )

    def _number(self, query: str) -> int:
        row = self.sql.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def settings(self) -> dict[str, str]:
        """Return versions and settings that decide speed."""
        found = {name: str(self.sql.execute(f"SHOW {name}").fetchone()[0]) for name in SHOWN_SETTINGS}  # type: ignore[index]
        seen: Any = self.redis.info("server")
        kept: Any = self.redis.config_get("append*")
        return {f"postgresql {name}": value for name, value in found.items()} | {
            "valkey version": seen.get("valkey_version", seen["redis_version"]),
            "valkey appendonly": kept["appendonly"],
            "valkey appendfsync": kept["appendfsync"],
        }


@contextmanager
def running(folder: Path) -> Iterator[Servers]:
    """Start both in a folder, durable, with the real schema and a file of harvested patterns."""
    folder.chmod(0o755)  # PostgreSQL refuses root and runs as another user
    patterns = folder / "patterns.jsonl"
    with patterns.open("w") as lines:
        for pattern in islice(harvest(standard_library()), PATTERNS):
            print(json.dumps(pattern), file=lines)
    preload = {"shared_preload_libraries": "pg_stat_statements"}
    with (
        EmbeddedPostgres(folder / "postgres", settings=preload) as postgres,
        EmbeddedValkey(folder / "valkey") as valkey,
    ):
        schema.upgrade(postgres.url)
        servers = Servers(postgres.url, valkey.url, patterns)
        with servers.sql, servers.redis:
            servers.sql.execute("CREATE EXTENSION pg_stat_statements")
            yield servers
