"""States of tasks, prepared to be stored in the result backend."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from celery.states import SUCCESS
from kombu.utils.encoding import ensure_bytes

from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.result_state_store import PackedStates, State, pack_states
from pattern_storage.vocabulary import FINAL_STATES, OperationName

OPERATIONS = frozenset(OperationName)


class PreparedState(NamedTuple):
    """A state of a task, ready to be stored."""

    task_id: str
    state: State
    #: Whether PostgreSQL, too, knows how the job ended.
    durable: bool

    @property
    def final(self) -> bool:
        """Whether the state is final."""
        return self.state[2] in FINAL_STATES


class PreparedStates(NamedTuple):
    """States that are stored together, packed already."""

    states: Sequence[PreparedState]
    packed: PackedStates

    @classmethod
    def of(cls, states: Sequence[PreparedState]) -> Self:
        """Pack these states."""
        return cls(states, pack_states([prepared.state for prepared in states]))


class DocumentAround:
    """Celery's document of a success, around a result that is JSON already: a template that is made once."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._key = ensure_bytes(backend.get_key_for_task("{task_id}"))
        document = backend._get_result_meta(result="{result}", state=SUCCESS, traceback=None, request=None)
        slots = {"date_done": "{date_done}", "task_id": "{task_id}"}
        text = str(backend.encode(document | slots)).replace("%", "%%").replace('"{result}"', "%(result)b")
        self._template = text.replace("{date_done}", "%(date_done)b").replace("{task_id}", "%(task_id)b").encode()

    def prepare(self, task_id: str, result: RecordedResult, date_done: bytes) -> PreparedState:
        """Return the state of a success that is in the ledger. JSON escapes no character of the id."""
        name = task_id.encode()
        document = self._template % {b"result": result.json, b"date_done": date_done, b"task_id": name}
        key = self._key.replace(b"{task_id}", name)
        return PreparedState(task_id, (key, document, SUCCESS, self._backend.expires), durable=True)


def is_durable(result: Any) -> bool:
    """Return whether PostgreSQL has this outcome of a storage job too; other results count as if it had them."""
    document = result.result if isinstance(result, StorageOperationFailed) else result
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or metadata.get("operation") not in OPERATIONS:
        return True
    # The ledger adds `request` to each result that it keeps; a message that was refused has never reached it.
    return metadata["operation"] != OperationName.QUERY and bool(metadata.get("request") or metadata.get("dead_letter"))
