"""Replacements of Flower's own views: private metrics, no results, a list without housekeeping, a durable Revoke."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from flower.api import BaseApiHandler
from flower.api.control import TaskRevoke
from flower.views.monitor import Metrics
from flower.views.tasks import TaskView
from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import ledger
from pattern_storage.tasks.flower.pages.base import EXPLAINED

#: Tasks that the list leaves out, unless the search names them.
HOUSEKEEPING = "maintenance"

#: Tasks that are cancelled in the ledger.
DURABLE = ("storage.", "imports.")


def search_jobs(events: Any, search: str | None = None, **options: Any) -> Any:
    """Return a page of Flower's list of tasks without housekeeping, in place of Flower's own `search_tasks`."""
    state = events.state
    tasks = getattr(state.tasks, "data", state.tasks)
    if HOUSEKEEPING not in (search or ""):
        hidden = f"{HOUSEKEEPING}."
        tasks = {job: task for job, task in tasks.items() if not str(task.name or "").startswith(hidden)}
    return state.search_engine.search(tasks, search or "", **options)


class TaskPage(TaskView):  # type: ignore[misc]  # Flower has no types
    """Flower's page of a job, or a redirect to ours for a job that Flower has not seen or has forgotten."""

    @web.authenticated
    def get(self, task_id: str) -> None:
        """Show the page, or redirect."""
        if task_id not in self.application.events.state.tasks:
            with suppress(ValueError):
                self.redirect(self.reverse_url("job", UUID(task_id)))
                return
        super().get(task_id)


class DurableRevoke(TaskRevoke):  # type: ignore[misc]
    """Flower's Revoke and Terminate: cancels a job of ours in the ledger, for good, and kills no process.

    Celery's own revoke is kept in the workers' memory, and its terminate ends other jobs of the same process. A task
    of another application is not in the ledger: Celery revokes it.
    """

    needed_role = Role.OPERATOR

    @web.authenticated
    async def post(self, taskid: str) -> None:
        """Cancel the job; answer 409 if it has ended."""
        task = self.application.events.state.tasks.get(taskid)
        name = str(task.name) if task is not None else DURABLE[0]
        try:
            job = UUID(taskid)
        except ValueError:
            job = None
        if job is None or not name.startswith(DURABLE):
            await super().post(taskid)
            return
        backend = self.settings["pattern_storage_backend"]
        try:
            if not await backend.operator(self.current_user.name).cancel([job]):
                state, _ = await backend.run(ledger.state, correlation_id=job)
                raise web.HTTPError(409, f"The job has ended before: {state}")
        except EXPLAINED as error:
            raise web.HTTPError(503, str(error)) from None
        # A worker that has the job tells Flower at once, and not only when the job's turn comes.
        await self.run_blocking("task.revoke", taskid, self.capp.control.revoke, taskid)
        self.write({"message": f"Cancelled '{taskid}' for good"})


class PrivateMetrics(Metrics):  # type: ignore[misc]
    """Flower's own metrics, which name workers and tasks, behind the login."""

    @web.authenticated
    async def get(self) -> None:
        """Write them in Prometheus' format."""
        await super().get()


class ResultsForbidden(BaseApiHandler):  # type: ignore[misc]
    """Refuses Flower's API of results: it would show template code, and write what no client of ours understands."""

    @web.authenticated
    def get(self, *_: Any) -> None:
        """Answer 403."""
        raise web.HTTPError(403, "Results hold template code and are not shown here: use 'pattern-storage result ID'")

    post = get


HANDLERS: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/metrics", PrivateMetrics),
    (r"/api/task/(?:result|apply|abort)/(.+)", ResultsForbidden),
    (r"/api/task/revoke/(.+)", DurableRevoke),
    (r"/task/(.+)", TaskPage),
]
