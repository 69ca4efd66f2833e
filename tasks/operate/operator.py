"""An operator: all actions on jobs, queues and imports; each is written to the audit.

What can be long goes in steps, each a transaction of its own with its effect: an action that is interrupted has done
what its audit entries say. Every action may be repeated.
"""

from pattern_storage.tasks.operate.import_actions import ImportActions
from pattern_storage.tasks.operate.job_actions import CANCELLABLE, RETRIABLE, JobActions
from pattern_storage.tasks.operate.queue_actions import QueueActions

__all__ = ["CANCELLABLE", "RETRIABLE", "Operator"]


class Operator(JobActions, QueueActions, ImportActions):
    """Acts in somebody's name; see `tasks.operate.actions`."""
