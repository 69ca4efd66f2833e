"""Remote control of workers for `doctor` and `health`; workers of other applications on the same broker answer, too."""

from typing import Any

from celery import Celery

from pattern_storage.config.celeryconfig import OPERATION_OF_TASK

#: The command that tells a worker of ours from others, whose node name may be the same: Celery's own, so no worker logs
#: that it does not know it.
REGISTERED = "registered"

#: More than there are workers of one node name.
ALL = 100

#: Node names with a worker's answer; two workers may have the same name.
Answers = list[tuple[str, Any]]


def broadcast(
    app: Celery, command: str, timeout: float, names: list[str] | None = None, limit: int | None = None
) -> Answers:
    """Return the answers to a remote control command, of all workers or of those with these names, by worker.

    It waits for `limit` answers, by default for as many as there are names, or until none came for `timeout` seconds.
    """
    if names == []:
        return []
    answers = app.control.broadcast(command, destination=names, reply=True, timeout=timeout, limit=limit) or []
    return [(name, answer) for each in answers for name, answer in each.items()]


def our_workers(registered: Answers) -> list[str]:
    """Return the workers of ours among those that have answered `registered`, sorted."""
    return sorted(
        name
        for name, tasks in registered
        if isinstance(tasks, list) and any(str(task).partition(" ")[0] in OPERATION_OF_TASK for task in tasks)
    )
