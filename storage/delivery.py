"""Deliveries: how the jobs at hand reached this worker, which the ledger keeps for operators.

The effect node knows contracts alone; who executes them says here, around the call, how they came.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from pattern_storage.storage.explanation import printable
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.vocabulary import ErrorType, JobState

#: Characters of a pattern's name that are kept of a job; a valid name is shorter.
NAME_LENGTH = 1_000


class Delivery(NamedTuple):
    """The queue of a message, the node name of the worker, and when it was sent and claimed, in Unix time."""

    queue: str | None = None
    worker: str | None = None
    sent_at: float | None = None
    claimed_at: float | None = None


UNKNOWN = Delivery()

_deliveries: ContextVar[Mapping[UUID, Delivery]] = ContextVar("deliveries", default={})  # noqa: B039  # never changed


@contextmanager
def delivered(deliveries: Mapping[UUID, Delivery]) -> Iterator[None]:
    """Say how these jobs were delivered, for what is executed inside."""
    token = _deliveries.set(deliveries)
    try:
        yield
    finally:
        _deliveries.reset(token)


def delivery_of(correlation_id: UUID) -> Delivery:
    """Return how the job was delivered, as far as that is known."""
    return _deliveries.get().get(correlation_id, UNKNOWN)


def pattern_name(contract: ModelContractPatternStorage, result: ModelResult | None = None) -> str | None:
    """Return the name of the pattern that a job is about; None for a batch, which has many, and where nobody knows."""
    # A contract from model_construct may lack anything.
    for data in (result and result.data, getattr(contract, "data", None)):
        if isinstance(data, dict) and data.get("pattern_name") is not None:
            return readable(data["pattern_name"])
    return None


def readable(text: Any) -> str:
    """Return the text as PostgreSQL can store it, and not longer than a name may be."""
    return printable(text).replace("\x00", "\\x00")[:NAME_LENGTH]


def state_of(result: ModelResult) -> JobState:
    """Return the final state that a result stands for."""
    if result.success:
        return JobState.SUCCESS
    return JobState.REVOKED if result.metadata.get("error_type") == ErrorType.REVOKED else JobState.FAILURE


def columns(correlation_id: UUID, result: ModelResult, name: str | None) -> dict[str, Any]:
    """Return what a row of the ledger says beside the result, for operators to list jobs by."""
    delivery = delivery_of(correlation_id)
    metadata = result.metadata
    return {
        "state": state_of(result),
        "operation": metadata.get("operation"),
        "pattern_name": name,
        "error_type": metadata.get("error_type"),
        "queue": delivery.queue,
        "worker": delivery.worker,
        "sent_at": delivery.sent_at,
        "claimed_at": delivery.claimed_at,
        "duration_ms": metadata.get("duration_ms"),
    }
