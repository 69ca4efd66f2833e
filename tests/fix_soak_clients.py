"""Clients of a soak: they submit every kind of job while servers come and go, and note what they are told."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, import_runs
from pattern_storage.storage.errors import TransientError
from pattern_storage.tasks.client import AsyncPatternStorageClient
from pattern_storage.tasks.client.outgoing import build
from pattern_storage.tasks.database import run_sync
from pattern_storage.tasks.errors import BrokerUnavailable, JobTimeout, ServiceUnavailable
from pattern_storage.tasks.imports.publisher import publish_runs
from pattern_storage.tasks.sender import create_app
from tests.fix_imports import make_plan, patterns, write_lines
from tests.fix_load import Load
from tests.fix_soak import SoakJob, SoakJobs
from tests.fix_soak_threads import SoakThreads
from tests.fix_storage import contract, make_pattern

#: Seconds that a client waits for a result before it goes on. It waits so that queues are short on a slow machine too.
PATIENCE = 3.0
#: What a client may get while a server is away; the last two on connections of the application's own.
EXPECTED = (ServiceUnavailable, JobTimeout, TransientError, psycopg.OperationalError, psycopg.InterfaceError)
#: Rows that are counted up, each update on top of the last.
COUNTERS = 5


class SoakClients(SoakThreads):
    """An application with every kind of client; `start` and `stop` it."""

    def __init__(self, load: Load, chance: random.Random, folder: Path) -> None:
        steps = (
            self._submit_mixed, self._submit_mixed, self._write_outbox, self._count_up, self._import, self._note_disk,
            self._submit_async,
        )  # fmt: skip
        super().__init__(steps, chance, EXPECTED)
        self._load, self._client, self._folder = load, load.client, folder
        self.jobs = SoakJobs()
        self.counters = list(load._seed(f"counter {number}" for number in range(COUNTERS)).values())

    def _hear(self, job: UUID, call: Callable[[], ModelResult]) -> None:
        """Note a result of the job."""
        try:
            self.jobs[job].results.append(call())
        except psycopg.Error as error:
            raise AssertionError("psycopg's errors are not for callers") from error

    def _wait_for(self, job: UUID) -> None:
        self._hear(job, lambda: self._client.get(job).result(PATIENCE))

    def _submit(self, contracts: Sequence[ModelContractPatternStorage], **options: Any) -> None:
        accepted = False
        try:
            self._client.submit_many(contracts, **options)
            accepted = True
        finally:
            self.jobs.note(contracts, accepted, only_in_redis=True)

    # --- what clients do again and again ---

    def _submit_mixed(self, chance: random.Random) -> None:
        """Submit jobs of all kinds, some late, some twice, some for nothing; cancel one, wait for one."""
        asked = [*self._load.mixed(chance.randint(1, 20)), contract("query", query_params={"limit": 3})]
        same_name = self._load.insert()
        job = uuid4()
        asked += [same_name, contract("insert", data=same_name.data | {"source": str(job)}, correlation_id=job)]
        delay = timedelta(seconds=chance.uniform(0.1, 5))
        options: dict[str, Any] = chance.choice([{}, {}, {"priority": "low"}, {"priority": "urgent"}, {"delay": delay}])
        for _ in range(chance.choice([1, 1, 2])):
            with suppress(BrokerUnavailable):
                self._submit(asked, **options)
        job = chance.choice(asked).correlation_id
        noted = self.jobs[job]
        if chance.random() < 0.3:
            noted.is_cancelled = True
            self._hear(job, self._client.get(job).cancel)
        self._wait_for(job)
        if not noted.is_query and not noted.is_cancelled:
            # It has ended: its id is not free for another request.
            other = contract("insert", data=make_pattern(source=f"not {job}"), correlation_id=job)
            result = self._client.submit(other).result(PATIENCE)
            assert result.metadata["error_type"] == "correlation_conflict", result

    def _write_outbox(self, chance: random.Random) -> None:
        """Write jobs and commit, or roll back."""
        asked = self._load.mixed(chance.randint(1, 10))
        delay = timedelta(seconds=chance.uniform(0.1, 5)) if chance.random() < 0.3 else None
        accepted: bool | None = None
        try:
            with psycopg.connect(self._load.database_url) as connection:
                self._client.submit_many_in(connection, asked, delay=delay)
                if chance.random() < 0.2:
                    connection.rollback()
                    return
                accepted = False
                connection.commit()
                accepted = True
        finally:
            self.jobs.note(asked, accepted)
        self._wait_for(asked[-1].correlation_id)

    def _count_up(self, chance: random.Random) -> None:
        """Read a counter and set it to one more, expecting that nobody does so meanwhile."""
        counter, job = chance.choice(self.counters), uuid4()
        query = "SELECT usage_count, updated_at FROM pattern_templates WHERE id = %s"
        with self._load.connect() as connection:
            [row] = connection.execute(query, [counter]).fetchall()
        data = {"usage_count": row["usage_count"] + 1, "source": str(job)}
        self._submit([build("update", pattern_id=counter, data=data, expect=row["updated_at"], correlation_id=job)])
        self._wait_for(job)

    def _import(self, chance: random.Random) -> None:
        """Start a run of an import of its own; the row of the run is what makes it exist."""
        job, rows = uuid4(), chance.randint(1, 300)
        file = write_lines(self._folder / f"{job}.jsonl", patterns(rows, source=str(job)))
        plan = make_plan(file, name=f"import {job}")
        noted = self.jobs[job] = SoakJob({"INSERT": rows}, accepted=False)
        run_sync(
            self._client.database.run(
                lambda connection: import_runs.add(connection, job, plan.name, None, plan.content)
            )
        )
        noted.accepted = True
        with create_app(self._client.settings) as app:
            publish_runs(app, [(job, plan.name, None)])
        self._wait_for(job)

    def _note_disk(self, _: random.Random) -> None:
        self.jobs.note_disk(self._load.redis_url)

    def _submit_async(self, chance: random.Random) -> None:
        """Submit some jobs of an asyncio client, and wait for all of them."""

        async def submit() -> None:
            settings = self._client.settings
            async with AsyncPatternStorageClient(
                database_url=settings.database_url, redis_url=settings.redis_url, connect_timeout=2.0
            ) as client:
                jobs = await client.submit_many(asked)
                self.jobs.note(asked, accepted=True)
                async for job, result in client.results(jobs, PATIENCE):
                    self.jobs[job.correlation_id].results.append(result)

        asked = self._load.inserts(chance.randint(1, 20))
        self.jobs.note(asked, accepted=False, only_in_redis=True)
        asyncio.run(submit())
