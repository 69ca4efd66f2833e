"""Deliveries: how the jobs at hand reached this worker, which the ledger keeps for operators.

The effect node knows contracts alone; the worker that executes them sets their deliveries around the call.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from pattern_storage.storage.explanation import storable
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult

#: Characters of a pattern's name that are kept of a job; a valid name is shorter.
NAME_LENGTH = 1_000


class Delivery(NamedTuple):
    """The queue of a message, the node name of the worker, and when it was sent and claimed, in Unix time.

    `is_new`: the sender made the id for this message and this is its first delivery, so PostgreSQL has kept nothing of
    the job, neither in the outbox nor as attempts or a dead letter. It may have, if a copy of the message was lost on
    its way or found again after a failover; maintenance removes what is kept of jobs that have ended.
    """

    queue: str | None = None
    worker: str | None = None
    sent_at: float | None = None
    claimed_at: float | None = None
    is_new: bool = False


UNKNOWN = Delivery()

_deliveries: ContextVar[Mapping[UUID, Delivery]] = ContextVar("deliveries", default={})  # noqa: B039  # never changed


@contextmanager
def delivered(deliveries: Mapping[UUID, Delivery]) -> Iterator[None]:
    """Set how these jobs were delivered, for the code inside the block."""
    token = _deliveries.set(deliveries)
    try:
        yield
    finally:
        _deliveries.reset(token)


def delivery_of(correlation_id: UUID) -> Delivery:
    """Return how the job was delivered, as far as that is known."""
    return _deliveries.get().get(correlation_id, UNKNOWN)


def pattern_name(contract: ModelContractPatternStorage, result: ModelResult | None = None) -> str | None:
    """Return the name of the pattern that a job is about; None for a batch, which has many, and where it is unknown."""
    # A contract from model_construct may lack anything.
    for data in (result and result.data, getattr(contract, "data", None)):
        if isinstance(data, dict) and data.get("pattern_name") is not None:
            return readable(data["pattern_name"])
    return None


def readable(text: Any) -> str:
    """Return the text as PostgreSQL can store it, and not longer than a name may be."""
    return storable(text)[:NAME_LENGTH]
