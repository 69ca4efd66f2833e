"""Actions on imports: run now, pause, resume, and stop a run."""

from contextlib import suppress
from typing import Any

from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import import_runs
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.flower.pages.actions import ActionHandler, NamedAction, Question
from pattern_storage.tasks.flower.pages.imports import OPEN, ImportsHandler


class RunNow(ImportsHandler, NamedAction):
    """Starting a run now, GET and POST /imports/run."""

    verb, past = "Run now", "started"
    consequence = (
        "A worker of the queue `imports` runs it now, beside its schedule. There is one run at a time: if one is open,"
        " no other is started."
    )

    async def question(self) -> Question:
        """Ask about an import that has a plan. Raises HTTPError 404 for an unknown one."""
        about = {"name": await self.target()}
        await self._plan()
        return Question(f"Run {about['name']} now?", self.href("imports"), about, about)

    async def act(self) -> int:
        """Start a run. If the queue does not answer, beat sends its message later. Raises RunOpen if one is open."""
        with suppress(BrokerUnavailable):
            await self.operator.run_import(self.parameter("name"), await self._plan(), force=True)
        return 1

    async def _plan(self) -> dict[str, Any]:
        """Return the plan of the import in the imports file, or that of its last run if it is not in the file."""
        name = self.parameter("name")
        entries, _ = await self.entries()
        if name in entries:
            return entries[name].content
        last = (await self.backend.run(import_runs.newest, names=[name])).get(name)
        if last is None:
            raise web.HTTPError(404, "There is no import of this name")
        return last.plan


class PauseImport(ImportsHandler, NamedAction):
    """Pausing an import, GET and POST /imports/pause."""

    verb, noun, past = "Pause", "import", "paused"
    consequence = (
        "Beat starts no run of it until somebody resumes it, also after a restart of everything. An open run goes on,"
        " and it can still be run by hand."
    )

    async def act(self) -> int:
        """Pause the import."""
        return int(await self.operator.pause_import(self.parameter("name")))


class ResumeImport(ImportsHandler, NamedAction):
    """Resuming an import, GET and POST /imports/resume."""

    verb, noun, past = "Resume", "import", "resumed"
    consequence = "Beat runs it again when it is due."

    async def act(self) -> int:
        """Resume the import."""
        return int(await self.operator.resume_import(self.parameter("name")))


class StopRun(ImportsHandler, ActionHandler):
    """Stopping a run that has not ended, GET and POST /imports/stop."""

    needed_role = Role.OPERATOR
    verb, past, dangerous = "Stop", "stopped", True
    consequence = "It rolls back within seconds and writes nothing. Its state is then cancelled, for good."

    async def question(self) -> Question:
        """Ask about the run. Raises HTTPError 404."""
        run = await self.run(self.parameter("id"))
        return Question(
            f"Stop this run of {run.name}?", self.href("import-run", run.run_id),
            {"name": run.name, "id": str(run.run_id), "state": run.state}, {"id": str(run.run_id)},
            count=int(run.state in OPEN),
        )  # fmt: skip

    async def act(self) -> int:
        """Cancel the run durably, if it is open."""
        run = await self.run(self.parameter("id"))
        if run.state not in OPEN:
            return 0
        return len(await self.operator.cancel([run.run_id], action="stop import"))

    def back(self, count: int) -> str:
        """Lead to the run."""
        return self.href("import-run", self.parameter("id"), did=self.past, count=count)
