"""Puts runs of `import_runs` on the queue `imports`."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from celery import Celery

from tasks.client.publisher import BROKER_ERRORS
from tasks.errors import BrokerUnavailable

TASK = "imports.run"
QUEUE = "imports"


def publish(app: Celery, runs: Iterable[tuple[UUID, str, datetime | None]]) -> list[UUID]:
    """Send a message for each run, (id, name, due); return their ids. A second message for a run does no harm.

    Raises BrokerUnavailable; then some may have been sent.
    """
    sent = []
    try:
        for run_id, name, due in runs:
            about = {"name": name, "due": None if due is None else due.isoformat()}
            app.send_task(
                TASK, kwargs=about, task_id=str(run_id), queue=QUEUE, argsrepr=describe(**about), kwargsrepr=""
            )
            sent.append(run_id)
    except BROKER_ERRORS as error:
        raise BrokerUnavailable(f"the queue does not answer: {error.__cause__ or error}") from error
    return sent


def describe(name: Any = None, due: Any = None, **_: Any) -> str:
    """Return for example `import nightly, due 2026-11-24T02:30:00+00:00`, whatever a message says."""
    line = f"import {name}" + (f", due {due}" if due else "")
    return "".join(character if character.isprintable() else " " for character in line)[:200]
