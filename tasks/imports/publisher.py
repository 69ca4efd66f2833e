"""Publisher of import runs: sends a message to the queue `imports` for each."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from celery import Celery

from pattern_storage.config.celeryconfig import IMPORT_TASK
from pattern_storage.tasks.client.publisher import BROKER_ERRORS
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.redis_errors import explain_failure

QUEUE = "imports"


def publish_runs(app: Celery, runs: Iterable[tuple[UUID, str, datetime | None]]) -> list[UUID]:
    """Send a message for each run, (id, name, due); return their ids. A second message for a run does no harm.

    Raises BrokerUnavailable; then some messages may have been sent.
    """
    # celery-types lacks the methods that send a message made before.
    sender: Any = app

    def send(producer: Any, run_id: UUID, about: dict[str, Any]) -> None:
        line = describe_run(**about)
        # Not send_task, which would wait for the result backend as well.
        message = sender.amqp.as_task_v2(str(run_id), IMPORT_TASK, kwargs=about, argsrepr=line, kwargsrepr="")
        sender.amqp.send_task_message(producer, IMPORT_TASK, message, queue=QUEUE, serializer="json", retry=False)

    sent = []
    try:
        with sender.producer_pool.acquire(block=True) as producer:
            # A pooled connection may have died since its last use: a second try tells that from a dead broker.
            safely = producer.connection.ensure(producer, send, max_retries=1, interval_start=0)
            for run_id, name, due in runs:
                safely(producer, run_id, {"name": name, "due": None if due is None else due.isoformat()})
                sent.append(run_id)
    except BROKER_ERRORS as error:
        raise BrokerUnavailable(explain_failure("the queue", error.__cause__ or error)) from error
    return sent


def describe_run(name: Any = None, due: Any = None, **_: Any) -> str:
    """Return one printable line for any message, such as `import nightly, due 2026-11-24T02:30:00+00:00`."""
    line = f"import {name}" + (f", due {due}" if due else "")
    return "".join(character if character.isprintable() else " " for character in line)[:200]
