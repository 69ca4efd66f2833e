"""Actions on imports: run now, stop, pause and resume."""

import asyncio
from contextlib import closing
from functools import partial
from typing import Any
from uuid import UUID

from pattern_storage.storage import audit, import_runs, open_runs, pauses
from pattern_storage.storage.pauses import Pausable
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.imports.publisher import publish_runs
from pattern_storage.tasks.operate.actions import Actions
from pattern_storage.tasks.sender import create_app


class ImportActions(Actions):
    """Actions on imports."""

    async def pause_import(self, name: str) -> bool:
        """Have beat start no run of an import until it is resumed; return whether it was not paused."""
        pause = partial(pauses.pause, kind=Pausable.IMPORT, name=name, actor=self._actor)
        return await self._change("pause import", name, pause)

    async def resume_import(self, name: str) -> bool:
        """Let beat start runs of an import again; return whether it was paused."""
        resume = partial(pauses.resume, kind=Pausable.IMPORT, name=name)
        return await self._change("resume import", name, resume)

    async def run_import(self, name: str, plan: dict[str, Any], *, force: bool = False) -> UUID:
        """Start a run of an import by hand and return its id. Raises RunOpen, and BrokerUnavailable.

        A run that the broker did not take is noted all the same, and beat puts it on the queue later.
        """

        async def step(connection: Connection) -> UUID:
            async with connection.transaction():
                run_id = await open_runs.start(connection, name, plan, force=force)
                about = {"name": name, "run": str(run_id), "force": force}
                await audit.record(connection, self._actor, "run import", about, 1)
            return run_id

        run_id = await self._run(step)
        await asyncio.to_thread(self._publish_run, run_id, name)
        published = partial(import_runs.mark_published, ids=[run_id], delay=self._settings.relay_republish_delay)
        await self._run(published)
        return run_id

    async def stop_import(self, name: str) -> list[UUID]:
        """Stop the runs of an import that have not ended: each rolls back within seconds, and ends as cancelled."""
        runs = await self._run(lambda connection: open_runs.list_open(connection, name))
        stopped = await self.cancel([run.run_id for run in runs], action="stop import")
        return sorted(stopped)

    def _publish_run(self, run_id: UUID, name: str) -> None:
        with closing(create_app(self._settings)) as app:
            try:
                publish_runs(app, [(run_id, name, None)])
            except BrokerUnavailable as error:
                raise BrokerUnavailable(
                    f"{error}; run {run_id} is noted all the same, and beat puts it on the queue when that is back"
                ) from error
