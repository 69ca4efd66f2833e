"""An operator: all actions on jobs, queues and imports; each is written to the audit.

A long action is done in steps, each a transaction of its own with its audit entry: the audit of an action that is
interrupted says how far it came. Every action may be repeated.
"""

from pattern_storage.tasks.operate.import_actions import ImportActions
from pattern_storage.tasks.operate.job_actions import CANCELLABLE, RETRIABLE, JobActions
from pattern_storage.tasks.operate.queue_actions import QueueActions

__all__ = ["CANCELLABLE", "RETRIABLE", "Operator"]


class Operator(JobActions, QueueActions, ImportActions):
    """All actions in the name of one operator; see `tasks.operate.actions`."""
