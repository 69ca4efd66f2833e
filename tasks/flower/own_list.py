"""Flower's own list and page of a job, as ours: without housekeeping, and with a Revoke that is durable."""

from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from flower.api.control import TaskRevoke
from flower.views.tasks import TaskView
from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import ledger
from pattern_storage.tasks.flower.pages.base import EXPLAINED

#: Tasks that a list leaves out, unless the search names them.
HOUSEKEEPING = "maintenance"

#: Tasks whose cancelling is a matter of the ledger.
DURABLE = ("storage.", "imports.")


def search_jobs(events: Any, search: str | None = None, **options: Any) -> Any:
    """Return a page of Flower's list, in place of Flower's own `search_tasks`."""
    state = events.state
    tasks = getattr(state.tasks, "data", state.tasks)
    if HOUSEKEEPING not in (search or ""):
        hidden = f"{HOUSEKEEPING}."
        tasks = {job: task for job, task in tasks.items() if not str(task.name or "").startswith(hidden)}
    return state.search_engine.search(tasks, search or "", **options)


class TaskPage(TaskView):  # type: ignore[misc]  # Flower has no types
    """Flower's page of a job; of one that Flower has not seen, or has forgotten, ours."""

    @web.authenticated
    def get(self, task_id: str) -> None:
        """Show it, or lead to ours."""
        if task_id not in self.application.events.state.tasks:
            with suppress(ValueError):
                self.redirect(self.reverse_url("job", UUID(task_id)))
                return
        super().get(task_id)


class DurableRevoke(TaskRevoke):  # type: ignore[misc]
    """Flower's Revoke and Terminate: a job of ours is cancelled for good, and no process is killed for it.

    Celery's own is kept in the workers' memory, and ends what shares the process. Another application's task is none
    of the ledger's, and Celery revokes it.
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
                state, _ = await backend.ask(partial(ledger.state, correlation_id=job))
                raise web.HTTPError(409, f"The job has ended before: {state}")
        except EXPLAINED as error:
            raise web.HTTPError(503, str(error)) from None
        # Workers that have it tell Flower at once, instead of when its turn comes.
        await self.run_blocking("task.revoke", taskid, self.capp.control.revoke, taskid)
        self.write({"message": f"Cancelled '{taskid}' for good"})
