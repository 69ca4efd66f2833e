"""Jobs that are known to the broker alone: waiting in its queues, or taken by workers and not acknowledged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.operate.queues import RedisQueues, redis_queues
from pattern_storage.tasks.operate.waiting_message import WaitingMessage
from pattern_storage.vocabulary import IMPORT_OPERATION, ListedState, OperationName

#: States of a job that has not ended.
UNENDED = (ListedState.QUEUED, ListedState.STARTED, ListedState.RETRY)
#: Messages of a queue that are searched at most.
SEARCHED = 100_000


@dataclass
class BrokerJobs:
    """Messages that match a filter.

    Attributes:
        messages: those that are shown.
        found: how many match.
        complete: whether all messages were searched. A very long queue is not, unless only its name is asked for.
    """

    messages: list[WaitingMessage] = field(default_factory=list)
    found: int = 0
    complete: bool = True

    def add(self, messages: Sequence[WaitingMessage], limit: int) -> None:
        """Count the messages, and show those for which there is room."""
        self.messages += messages[: limit - len(self.messages)]
        self.found += len(messages)


def describe_message(message: WaitingMessage, names: Mapping[UUID, str]) -> str:
    """Return a line about a message, with the pattern's name in place of its id."""
    contract = message.contract
    name = names.get(contract.pattern_id) if contract and contract.pattern_id else None
    line = message.description
    return line.replace(str(contract.pattern_id), name, 1) if contract and name else line


def queues_of(queues: RedisQueues, wanted: JobFilter) -> tuple[str, ...]:
    """Return the queues in which jobs of this filter may wait: ours for the operation, and all of other names."""
    if wanted.queue is not None:
        return (wanted.queue,) if queues.knows(wanted.queue) else ()
    names = queues.names()
    others = names[len(QUEUES) :]
    match wanted.operation:
        case None:
            return names
        case OperationName.BATCH_INSERT:
            return ("batch", *others)
        case str() if wanted.operation == IMPORT_OPERATION:
            return ("imports",)
        case _:
            return ("storage", *others)


def find(settings: Settings, wanted: JobFilter, limit: int) -> BrokerJobs:
    """Return the jobs that wait, in the order in which workers take them. Blocks. Raises BrokerUnavailable.

    If the filter names a state, jobs that workers have taken come first. Without one the last are those that wait in a
    worker, mostly delayed ones; PostgreSQL's list has the others.
    """
    found = BrokerJobs()
    asked = wanted.among(*UNENDED)
    if not asked or wanted.error_type is not None or not settings.broker_kind.is_redis:
        return found
    with redis_queues(settings) as queues:
        # A job that was cancelled meanwhile is in the ledger.
        shown = UNENDED if wanted.states else (ListedState.QUEUED,)
        taken = [message for message in queues.in_flight() if message.state in shown and message.matches(wanted)]
        if wanted.states:
            found.add(taken, limit)
        if ListedState.QUEUED in asked:
            for name in queues_of(queues, wanted):
                _find_in(queues, name, wanted, limit, found)
        if not wanted.states:
            found.add(taken, limit)
    return found


def _find_in(queues: RedisQueues, name: str, wanted: JobFilter, limit: int, found: BrokerJobs) -> None:
    by_state_and_queue_alone = JobFilter(states=wanted.states, queue=wanted.queue) == wanted
    room = max(limit - len(found.messages), 1)
    if by_state_and_queue_alone:
        page = queues.waiting(name, limit=room)
        found.found += page.total - len(page.messages)
    else:
        page = queues.waiting(name, wanted, limit=SEARCHED)
        found.complete = found.complete and page.next is None
    found.add(page.messages, limit)
