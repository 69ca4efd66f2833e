"""Jobs that only the broker knows: those that wait in its queues, and those that workers have taken."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.operate.queues import RedisQueues, redis_queues
from pattern_storage.tasks.operate.waiting_message import WaitingMessage
from pattern_storage.vocabulary import IMPORT_OPERATION, ListedState, OperationName

#: States of messages that workers have.
UNENDED = (ListedState.QUEUED, ListedState.STARTED, ListedState.RETRY)
#: Messages that are counted of a queue at most.
COUNTED = 100_000


@dataclass
class BrokerJobs:
    """Messages that a filter lets through.

    Attributes:
        messages: of those the ones that are shown.
        found: how many were found.
        complete: whether all were looked through; a queue of a hundred thousand is not, where the filter asks for more
            than its name.
    """

    messages: list[WaitingMessage] = field(default_factory=list)
    found: int = 0
    complete: bool = True


def named(message: WaitingMessage, names: Mapping[UUID, str]) -> str:
    """Return what a message is about, with the name of the pattern where only its id is in the message."""
    contract = message.contract
    name = names.get(contract.pattern_id) if contract and contract.pattern_id else None
    return message.about.replace(str(contract.pattern_id), name, 1) if contract and name else message.about


def queues_of(queues: RedisQueues, wanted: JobFilter) -> tuple[str, ...]:
    """Return the queues that jobs of this filter may wait in; in one of another name whatever was sent there."""
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
    """Return the jobs that wait, those first that a worker would take first. Blocks. Raises BrokerUnavailable.

    Where the filter names a state, those that workers have taken are among them.
    """
    found = BrokerJobs()
    asked = wanted.among(*UNENDED)
    if not asked or wanted.error_type is not None or not settings.broker_kind.is_redis:
        return found
    with redis_queues(settings) as queues:
        if wanted.states:
            # Of one that was cancelled meanwhile the ledger has all.
            taken = [one for one in queues.in_flight() if one.state in UNENDED and one.matches(wanted)]
            found.messages, found.found = taken[:limit], len(taken)
        if ListedState.QUEUED in asked:
            for name in queues_of(queues, wanted):
                _find_in(queues, name, wanted, limit, found)
    return found


def _find_in(queues: RedisQueues, name: str, wanted: JobFilter, limit: int, found: BrokerJobs) -> None:
    by_state_and_queue_alone = JobFilter(states=wanted.states, queue=wanted.queue) == wanted
    room = max(limit - len(found.messages), 1)
    if by_state_and_queue_alone:
        page = queues.waiting(name, limit=room)
        found.found += page.total
    else:
        page = queues.waiting(name, wanted, limit=COUNTED)
        found.found += len(page.messages)
        found.complete = found.complete and page.next is None
    found.messages += page.messages[: limit - len(found.messages)]
