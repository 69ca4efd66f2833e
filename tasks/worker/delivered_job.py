"""The delivery of a job as its message tells it, for the ledger's columns: queue, worker, times."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from celery.utils.nodenames import gethostname

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.storage.delivery import Delivery, delivered, readable


def delivery_from(request: Mapping[str, Any]) -> Delivery:
    """Return the delivery of a request as Celery hands it to a task; a producer may have sent anything."""
    queue = (request.get("delivery_info") or {}).get("routing_key")
    return Delivery(
        # Ours are plain.
        queue=queue if queue in QUEUES else readable(queue) if queue else None,
        worker=request.get("hostname") or gethostname(),
        sent_at=_unix_time(request.get("sent_at")),
        claimed_at=_unix_time(request.get("claimed_at")),
    )


def _unix_time(value: Any) -> float | None:
    # A year of five digits is none of PostgreSQL's; nor is a number that is none.
    return float(value) if isinstance(value, int | float) and 0 < value < 1e11 else None


def of_task(task: Any) -> AbstractContextManager[None]:
    """Say how the job of a running task was delivered, for what is executed inside."""
    try:
        return delivered({UUID(str(task.request.id)): delivery_from(vars(task.request))})
    except ValueError:
        return nullcontext()
