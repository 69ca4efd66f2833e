"""Pages of the imports: a list with schedules and last runs, the history of an import, and the page of a run."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tornado import web

from pattern_storage.storage import import_health, import_progress, import_runs, ledger, pauses
from pattern_storage.storage.import_runs import ImportRun
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.plots import Bar, bars
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid, load_entries
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.vocabulary import SUCCESSFUL_RUN_STATES, ImportRunState

#: Runs in a history, and bars in its plot.
RUNS = 100

#: Figures of a progress report are smaller than this: JavaScript's largest exact integer, which no run reaches.
LARGEST = 2**53

#: States of runs that have not ended.
OPEN = (ImportRunState.QUEUED, ImportRunState.RUNNING)

#: CSS class of a run's bar by the state in which it ended; in other final states a run has no duration.
KINDS = {ImportRunState.DONE: "good", ImportRunState.UNCHANGED: "good", ImportRunState.FAILED: "bad",
         ImportRunState.CANCELLED: "other"}  # fmt: skip


@dataclass(frozen=True)
class ListedImport:
    """A row of the list; `entry` is None for an import that is not in the imports file, only in the history."""

    name: str
    entry: ImportEntry | None
    last: ImportRun | None
    due: datetime | None

    @property
    def source(self) -> str:
        """URL or path of its source, without secrets."""
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
    # PostgreSQL's clock may be ahead of Flower's.
    return max((run.finished_at or datetime.now(UTC)) - run.started_at, timedelta())


class ImportsHandler(PageHandler):
    """Base of the pages and actions of the imports."""

    tab = "imports"

    async def entries(self) -> tuple[dict[str, ImportEntry], str]:
        """Return the entries of the imports file by name, and a sentence about what is wrong with the file, or ""."""
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
            found = await self.backend.run(import_runs.find, run_id=run_id)
            if found is not None:
                return found
        raise web.HTTPError(404, "There is no run of this id: its history may have been purged")

    async def stuck(self) -> dict[UUID, datetime]:
        """Return the runs that make no progress, and since when."""
        return {run.run_id: run.updated_at for run in await self.backend.run(import_progress.stuck)}


class ImportsPage(ImportsHandler):
    """The list, GET /imports."""

    async def get(self) -> None:
        """Show every import, and the newest runs."""
        entries, problem = await self.entries()
        health = await self.backend.run(import_health.measure)
        names = sorted({*entries, *(measured.name for measured in health)})
        newest = await self.backend.run(import_runs.newest, names=names)
        now = datetime.now(UTC)
        listed = []
        for name in names:
            entry = entries.get(name)
            due = entry.due.after(now) if entry and entry.enabled and entry.due else None
            listed.append(ListedImport(name, entry, newest.get(name), due))
        runs = await self.backend.run(import_runs.history, limit=20)
        paused = await self.backend.run(pauses.paused, kind=Pausable.IMPORT)
        self.page(
            "imports.html", imports=listed, runs=runs, problem=problem, duration=duration, paused=paused,
            stuck=await self.stuck(),
        )  # fmt: skip


class HistoryPage(ImportsHandler):
    """The history of one import, GET /imports/history."""

    async def get(self) -> None:
        """Show its runs and their durations."""
        name = self.parameter("name")
        runs = await self.backend.run(import_runs.history, name=name, limit=RUNS)
        entries, _ = await self.entries()
        if not runs and name not in entries:
            raise web.HTTPError(404, "There is no import of this name, and none has run")
        self.page(
            "import_history.html", name=name, entry=entries.get(name), runs=runs, plot=self._plot(name, runs),
            duration=duration, redact=redact, stuck=await self.stuck(),
        )  # fmt: skip

    def _plot(self, name: str, runs: list[ImportRun]) -> str:
        drawn = []
        for run in reversed(runs):
            took = duration(run)
            if took is not None and run.state in (*KINDS, *OPEN):
                seconds = took.total_seconds()
                title = f"{formatting.time(run.started_at)} UTC: {run.state}, {formatting.seconds(seconds)}"
                kind = KINDS.get(ImportRunState(run.state), "")
                drawn.append(Bar(seconds, kind, title, self.href("import-run", run.run_id)))
        label = f"Durations of the last {len(drawn)} runs of {formatting.text(name)}, the newest at the right"
        return bars(drawn, label, formatting.seconds)


class RunPage(ImportsHandler):
    """The page of a run, GET /imports/runs/ID."""

    async def get(self, text: str) -> None:
        """Show the progress of the run, or its outcome."""
        run = await self.run(text)
        progress: dict[str, Any] | None = None
        stuck = (await self.stuck()).get(run.run_id)
        if run.state in OPEN:
            progress = await self.backend.try_in_thread(self.backend.client.get(run.run_id).progress)
        recorded = await self.backend.run(ledger.find, correlation_id=run.run_id) if run.rows_rejected else None
        rejected = (recorded[1].data or {}).get("reject_file") if recorded else None
        self.page(
            "import_run.html", run=run, reject_file=rejected, progress=valid_figures(progress or {}), stuck=stuck,
            duration=duration, redact=redact, is_open=run.state in OPEN, succeeded=run.state in SUCCESSFUL_RUN_STATES,
        )  # fmt: skip


def valid_figures(progress: dict[str, Any]) -> dict[str, Any]:
    """Return the valid figures of a progress report, which comes from Redis and may hold anything."""
    found: dict[str, Any] = {}
    for name in ("current", "total", "rate", "percent", "seconds_left", "bytes", "bytes_total"):
        value = progress.get(name)
        if isinstance(value, int | float) and 0 <= value < LARGEST:
            found[name] = value
    return found | {"phase": str(progress.get("phase") or "")[:20]} if found else {}
