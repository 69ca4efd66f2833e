"""One job both ways: executed alone, and as one of the several jobs of a group."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from uuid import uuid4

import pytest

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection
from tests.fix_storage import Executor, contract, make_pattern

#: Of the rows of a table, those that no neighbour in a group has left there.
OWN = "WHERE starts_with(pattern_name, 'neighbour') IS NOT TRUE"


class GroupExecutor:
    """Executes each job between two others of its group, and alone if the group leaves it out, as a worker does."""

    def __init__(self, node: NodePatternStorageEffect, database_url: str) -> None:
        self._node, self._database_url = node, database_url
        #: A connection for each group that is executed at the same time, as the processes of a pool have.
        self._idle: list[GroupConnection] = []
        self._opened = ExitStack()

    async def execute_once(self, asked: ModelContractPatternStorage) -> ModelResult:
        """Execute the job; its neighbours are done, whatever becomes of it."""
        before, after = (contract("insert", data=make_pattern(pattern_name=f"neighbour {uuid4()}")) for _ in range(2))
        jobs = [before, asked, after]
        lent = self._idle.pop() if self._idle else self._open()
        together = await asyncio.to_thread(lent.execute, jobs)
        self._idle.append(lent)
        results = [
            await self._node.execute_once(job) if result is None else result.parse()
            for job, result in zip(jobs, together, strict=True)
        ]
        assert [(result.success, result.metadata.get("replayed")) for result in results[::2]] == [(True, None)] * 2
        return results[1]

    def _open(self) -> GroupConnection:
        return self._opened.enter_context(closing(GroupConnection(self._database_url, connect_timeout=5.0)))

    def close(self) -> None:
        """Close the connections."""
        self._opened.close()


@pytest.fixture(params=["alone", "in a group"])
def executor(node: NodePatternStorageEffect, database_url: str, request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Executes the jobs of a test alone, and once more each in a group."""
    if request.param == "alone":
        yield node
        return
    with closing(GroupExecutor(node, database_url)) as grouped:
        yield grouped
