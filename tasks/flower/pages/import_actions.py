"""Actions on imports: run now, pause, resume, and stop a run."""

from contextlib import suppress
from functools import partial
from typing import Any

from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import import_runs
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.flower.pages.actions import ActionHandler, Question
from pattern_storage.tasks.flower.pages.imports import OPEN, ImportsHandler


class RunNow(ImportsHandler, ActionHandler):
    """Starting a run now, GET and POST /imports/run."""

    needed_role = Role.OPERATOR
    verb, past = "Run now", "started"
    consequence = (
        "A worker of the queue `imports` runs it now, beside its schedule. One run at a time: an open one goes on."
    )

    def about(self) -> dict[str, str]:
        """Return its name."""
        return {"name": self.given("name")}

    def back(self, count: int) -> str:
        """Lead to the list."""
        return self.href("imports", did=self.past, count=count)

    async def question(self) -> Question:
        """Name it. Raises HTTPError 404 for one that nobody knows."""
        about = self.about()
        await self._plan()
        return Question(f"Run {about['name']} now?", self.href("imports"), about, about)

    async def act(self) -> int:
        """Start it; if the queue does not answer, beat sends its message later. Raises RunOpen where one is open."""
        name, plan = self.given("name"), await self._plan()
        with suppress(BrokerUnavailable):
            await self.operator.run_import(name, plan, force=True)
        return 1

    async def _plan(self) -> dict[str, Any]:
        """Return the plan of the imports file, or of its last run where Flower has no such file."""
        name = self.given("name")
        entries, _ = await self.entries()
        if name in entries:
            return entries[name].content
        last = (await self.backend.ask(partial(import_runs.newest, names=[name]))).get(name)
        if last is None:
            raise web.HTTPError(404, "There is no import of this name")
        return last.plan


class ImportPause(ImportsHandler, ActionHandler):
    """What pausing and resuming an import have in common."""

    needed_role = Role.OPERATOR

    def about(self) -> dict[str, str]:
        """Return its name."""
        return {"name": self.given("name")}

    def back(self, count: int) -> str:
        """Lead to the list."""
        return self.href("imports", did=self.past if count else "", count=count)

    async def question(self) -> Question:
        """Name it."""
        about = self.about()
        return Question(f"{self.verb} import {about['name']}?", self.href("imports"), about, about)


class PauseImport(ImportPause):
    """Pausing an import, GET and POST /imports/pause."""

    verb, past = "Pause", "paused"
    consequence = (
        "Beat starts no run of it until somebody resumes it, also after a restart of everything. An open run goes on,"
        " and it can still be run by hand."
    )

    async def act(self) -> int:
        """Pause it."""
        return int(await self.operator.pause_import(self.given("name")))


class ResumeImport(ImportPause):
    """Resuming an import, GET and POST /imports/resume."""

    verb, past = "Resume", "resumed"
    consequence = "Beat runs it again when it is due."

    async def act(self) -> int:
        """Resume it."""
        return int(await self.operator.resume_import(self.given("name")))


class StopRun(ImportsHandler, ActionHandler):
    """Stopping a run that has not ended, GET and POST /imports/stop."""

    needed_role = Role.OPERATOR
    verb, past, action, dangerous = "Stop", "stopped", "", True
    consequence = "It rolls back within seconds and writes nothing. It ends as cancelled, whatever a worker does later."

    def about(self) -> dict[str, str]:
        """Return its id."""
        return {"id": self.given("id")}

    def back(self, count: int) -> str:
        """Lead to the run."""
        return self.href("import-run", self.given("id"), did=self.past if count else "", count=count)

    async def question(self) -> Question:
        """Name the run. Raises HTTPError 404."""
        run = await self.run(self.given("id"))
        text = f"Stop this run of {run.name}?"
        about = {"name": run.name, "id": str(run.run_id), "state": run.state}
        return Question(text, self.href("import-run", run.run_id), about, self.about(), count=int(run.state in OPEN))

    async def act(self) -> int:
        """Cancel it, durably."""
        run = await self.run(self.given("id"))
        if run.state not in OPEN:
            return 0
        return len(await self.operator.cancel([run.run_id], action="stop import"))


ROUTES: list[tuple[str, str, type[Any]]] = [
    ("run-import", r"/imports/run", RunNow),
    ("pause-import", r"/imports/pause", PauseImport),
    ("resume-import", r"/imports/resume", ResumeImport),
    ("stop-run", r"/imports/stop", StopRun),
]
