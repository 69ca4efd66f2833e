"""Actions on queues: pause, resume and purge. The operator's code writes them into the audit."""

from pattern_storage.config.flower_roles import Role
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.actions import NamedAction, Question
from pattern_storage.tasks.flower.pages.queues import QueuesHandler


class QueueAction(QueuesHandler, NamedAction):
    """An action on a queue."""

    noun = "the queue"

    async def target(self) -> str:
        """Return the name of a queue that there is. Raises HTTPError 404."""
        return await self.queue(self.parameter("name"))


class PauseQueue(QueueAction):
    """Pausing a queue for all workers, GET and POST /queues/pause."""

    verb, past = "Pause", "paused"
    consequence = (
        "No worker takes a job from it until somebody resumes it, also after a restart of everything. Jobs that workers"
        " have taken are done. Jobs can still be submitted, and wait."
    )

    async def act(self) -> int:
        """Pause the queue."""
        return int(await self.operator.pause_queue(await self.target()))


class ResumeQueue(QueueAction):
    """Resuming a queue, GET and POST /queues/resume."""

    verb, past = "Resume", "resumed"
    consequence = "Workers take jobs from it again within seconds."

    async def act(self) -> int:
        """Resume the queue."""
        self.settings.pop("pattern_storage_workers_asked", None)
        return int(await self.operator.resume_queue(await self.target()))


class PurgeQueue(QueueAction):
    """Emptying a queue, GET and POST /queues/purge."""

    needed_role = Role.ADMIN
    verb, past, dangerous = "Purge", "purged", True
    consequence = "Every job that waits in it is cancelled for good and removed. Jobs that workers have taken go on."

    async def question(self) -> Question:
        """Say how many jobs wait."""
        about = {"name": await self.target()}
        depth = await self.depth(about["name"])
        text = f"Purge {formatting.plural(depth.waiting, 'job')} from the queue {depth.name}?"
        return Question(text, self.href("queues"), about, about, count=depth.waiting)

    async def act(self) -> int:
        """Empty the queue."""
        return await self.operator.purge_queue(await self.target())
