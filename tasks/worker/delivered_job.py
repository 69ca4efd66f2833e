"""The delivery of a job according to its message, for the ledger's columns: queue, worker, times."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from celery.utils.nodenames import gethostname

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.storage.delivery import Delivery, delivered, readable
from pattern_storage.tasks.second_delivery import is_delivered_again


def delivery_from(request: Mapping[str, Any]) -> Delivery:
    """Return the delivery of a request as Celery hands it to a task; a producer may have sent anything."""
    delivery = request.get("delivery_info") or {}
    queue = delivery.get("routing_key")
    return Delivery(
        # Our own queues' names can be stored as they are.
        queue=queue if queue in QUEUES else readable(queue) if queue else None,
        worker=request.get("hostname") or gethostname(),
        sent_at=_unix_time(request.get("sent_at")),
        claimed_at=_unix_time(request.get("claimed_at")),
        is_new=request.get("id_is_new") is True and not is_delivered_again(request),
    )


def _unix_time(value: Any) -> float | None:
    # PostgreSQL takes neither a year of five digits nor NaN.
    return float(value) if isinstance(value, int | float) and 0 < value < 1e11 else None


def of_task(task: Any) -> AbstractContextManager[None]:
    """Return a context in which the ledger notes how the job of a running task was delivered."""
    try:
        return delivered({UUID(str(task.request.id)): delivery_from(vars(task.request))})
    except ValueError:
        return nullcontext()
