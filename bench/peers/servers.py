"""PostgreSQL and Valkey for all, emptied before each measurement, and counters of what was asked of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
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
COUNT_STATEMENTS = """
SELECT /* bench */ coalesce(sum(calls), 0)::bigint,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint
FROM pg_stat_statements WHERE query NOT LIKE '%/* bench */%'
"""


@dataclass(frozen=True)
class Counts:
    """What was asked of the servers so far.

    A Redis round trip is one read of a client's socket, which may bring many commands. Statements count BEGIN and
    COMMIT where they are not prepared; transactions are those that wrote, by the ids that they took. The milliseconds
    are CPU time of all processes of PostgreSQL, with WAL writer, checkpointer and autovacuum, and with what this class
    asks while it waits.
    """

    redis_round_trips: int
    redis_commands: int
    statements: int
    transactions: int
    postgres_ms: float

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
        self._postgres = psutil.Process(self.sql.info.backend_pid).parent()

    @contextmanager
    def database(self, name: str) -> Iterator["Servers"]:
        """Make another database with the schema, and yield the same servers with it."""
        self.sql.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        # Not every peer's driver reads libpq's other form.
        url = urlsplit(self.database_url)._replace(path=f"/{name}").geturl()
        schema.upgrade(url)
        servers = Servers(url, self.redis_url, self.patterns)
        with servers.sql, servers.redis:
            servers.sql.execute("CREATE EXTENSION pg_stat_statements")
            yield servers
        self.sql.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def empty(self, *, keep: bool = False) -> None:
        """Remove all rows and keys, and write out what PostgreSQL has in memory, so that nobody pays for another.

        Args:
            keep: Leave pattern_templates as it is.
        """
        self.redis.flushall()
        named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%version%'"
        tables = [name for (name,) in self.sql.execute(named) if not keep or name != "pattern_templates"]
        if tables:
            self.sql.execute(SQL("TRUNCATE {} CASCADE").format(SQL(", ").join(map(Identifier, tables))))
        self.sql.execute("CHECKPOINT")
        self._begun = self._value("SELECT now()")

    def new_rows(self) -> int:
        """Return how many patterns came since the servers were emptied."""
        return int(self._value("SELECT /* bench */ count(*) FROM pattern_templates WHERE created_at > %s", self._begun))

    def redis_bytes(self) -> int:
        """Return how much memory Valkey uses for its data."""
        seen: Any = self.redis.info("memory")
        return int(seen["used_memory_dataset"])

    def counts(self) -> Counts:
        """Return the counters; requests and statements are without those of this class."""
        seen: Any = self.redis.info("stats")
        statements, commits = self.sql.execute(COUNT_STATEMENTS).fetchone() or (0, 0)
        reads, commands = seen["total_reads_processed"], seen["total_commands_processed"]
        return Counts(reads, commands, statements, commits, self._postgres_ms())

    def _postgres_ms(self) -> float:
        assert self._postgres is not None
        spent = self._postgres.cpu_times()
        # Those of its processes that have ended as well.
        seconds = spent.user + spent.system + spent.children_user + spent.children_system
        for process in self._postgres.children():
            with suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                seconds += spent.user + spent.system
        return 1000 * seconds

    def _value(self, query: str, *values: Any) -> Any:
        row = self.sql.execute(query.encode(), values or None).fetchone()
        assert row is not None
        return row[0]

    def settings(self) -> dict[str, str]:
        """Return versions and settings that decide speed."""
        found = {name: str(self._value(f"SHOW {name}")) for name in SHOWN_SETTINGS}
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
