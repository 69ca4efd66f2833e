"""Pages of the imports: each with its schedule and its last run, a history with a plot, and the page of a run."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import import_health, import_runs, pauses
from pattern_storage.storage.import_runs import ImportRun
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks.errors import BrokerUnavailable, ServiceUnavailable
from pattern_storage.tasks.flower.pages import words
from pattern_storage.tasks.flower.pages.actions import ActionHandler, Question
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.plots import Bar, bars
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid, load_entries
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.vocabulary import SUCCESSFUL_RUN_STATES, ImportRunState

#: Runs in a history, and bars in its plot.
RUNS = 100

#: A figure of a report of progress that no run can reach.
LARGEST = 2**53

#: States of runs that have not ended.
OPEN = (ImportRunState.QUEUED, ImportRunState.RUNNING)

#: States in which a run has a duration, and the class of its bar.
KINDS = {ImportRunState.DONE: "good", ImportRunState.UNCHANGED: "good", ImportRunState.FAILED: "bad"}


@dataclass(frozen=True)
class ListedImport:
    """An import as the list shows it; `entry` is None for one that no imports file has."""

    name: str
    entry: ImportEntry | None
    last: ImportRun | None
    due: datetime | None

    @property
    def source(self) -> str:
        """Where its rows come from, without secrets."""
        if self.entry is not None:
            return redact(self.entry.source)
        return redact(str(self.last.plan.get("source"))) if self.last else ""

    @property
    def is_open(self) -> bool:
        """Whether its last run has not ended."""
        return self.last is not None and self.last.state in OPEN


def duration(run: ImportRun) -> timedelta | None:
    """Return how long a run took, or has taken until now."""
    if run.started_at is None:
        return None
    return (run.finished_at or datetime.now(UTC)) - run.started_at


class ImportsHandler(PageHandler):
    """What the pages of the imports have in common."""

    tab = "imports"

    async def entries(self) -> tuple[dict[str, ImportEntry], str]:
        """Return the imports of the file by name, and what is wrong with it."""
        path = self.backend.settings.imports_file
        if path is None:
            return {}, "PATTERN_STORAGE_IMPORTS_FILE is not set for Flower: schedules of imports are not known here."
        try:
            return {entry.name: entry for entry in await self.backend.in_thread(load_entries, path)}, ""
        except ImportsFileInvalid as error:
            return {}, str(error)

    async def run(self, text: str) -> ImportRun:
        """Return a run. Raises HTTPError 404."""
        with suppress(ValueError):
            run_id = UUID(text)
            found = await self.backend.ask(partial(import_runs.find, run_id=run_id))
            if found is not None:
                return found
        raise web.HTTPError(404, "There is no run of this id: its history may have been purged")


class ImportsPage(ImportsHandler):
    """The list, GET /imports."""

    async def get(self) -> None:
        """Show every import, and the newest runs of all."""
        entries, problem = await self.entries()
        health = await self.backend.ask(import_health.measure)
        names = sorted({*entries, *(each.name for each in health)})
        newest = await self.backend.ask(partial(import_runs.newest, names=names))
        now = datetime.now(UTC)
        listed = []
        for name in names:
            entry = entries.get(name)
            due = entry.due.after(now) if entry and entry.enabled and entry.due else None
            listed.append(ListedImport(name, entry, newest.get(name), due))
        runs = await self.backend.ask(partial(import_runs.history, limit=20))
        paused = await self.backend.ask(partial(pauses.paused, kind=Pausable.IMPORT))
        self.page("imports.html", imports=listed, runs=runs, problem=problem, duration=duration, paused=paused)


class HistoryPage(ImportsHandler):
    """The history of one import, GET /imports/history."""

    async def get(self) -> None:
        """Show its runs, and how long they took."""
        name = self.given("name")
        runs = await self.backend.ask(partial(import_runs.history, name=name, limit=RUNS))
        if not runs:
            raise web.HTTPError(404, "There is no run of an import of this name")
        entries, _ = await self.entries()
        self.page(
            "import_history.html", name=name, entry=entries.get(name), runs=runs, plot=self._plot(name, runs),
            duration=duration, redact=redact,
        )  # fmt: skip

    def _plot(self, name: str, runs: list[ImportRun]) -> str:
        drawn = []
        for run in reversed(runs):
            took = duration(run)
            if took is not None and run.state in (*KINDS, *OPEN):
                title = f"{words.time(run.started_at)} UTC: {run.state}, {words.seconds(took.total_seconds())}"
                kind = KINDS.get(ImportRunState(run.state), "")
                drawn.append(Bar(took.total_seconds(), kind, title, self.href("import-run", run.run_id)))
        label = f"Durations of the last {len(drawn)} runs of {words.text(name)}, the newest at the right"
        return bars(drawn, label, words.seconds)


class RunPage(ImportsHandler):
    """The page of a run, GET /imports/runs/ID."""

    async def get(self, text: str) -> None:
        """Show how far it is, or how it ended."""
        run = await self.run(text)
        progress: dict[str, Any] = {}
        if run.state in OPEN:
            with suppress(ServiceUnavailable):
                progress = await self.backend.in_thread(self._progress, run.run_id)
        self.page(
            "import_run.html", run=run, progress=figures(progress), duration=duration, redact=redact,
            is_open=run.state in OPEN, succeeded=run.state in SUCCESSFUL_RUN_STATES,
        )  # fmt: skip

    def _progress(self, run_id: UUID) -> dict[str, Any]:
        return self.backend.client.get(run_id).progress() or {}


def figures(progress: dict[str, Any]) -> dict[str, Any]:
    """Return of a report of progress, which comes from Redis and may hold anything, what are figures."""
    found: dict[str, Any] = {}
    for name in ("current", "total", "rate", "percent", "seconds_left", "bytes", "bytes_total"):
        value = progress.get(name)
        if isinstance(value, int | float) and 0 <= value < LARGEST:
            found[name] = value
    return found | {"phase": str(progress.get("phase") or "")[:20]} if found else {}


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
    ("imports", r"/imports", ImportsPage),
    ("import-history", r"/imports/history", HistoryPage),
    ("import-run", r"/imports/runs/([^/]+)", RunPage),
    ("run-import", r"/imports/run", RunNow),
    ("pause-import", r"/imports/pause", PauseImport),
    ("resume-import", r"/imports/resume", ResumeImport),
    ("stop-run", r"/imports/stop", StopRun),
]
