"""A Celery application with tasks of its own, which stores patterns by sending a task by its name.

It imports nothing of pattern-storage: task names, queues and JSON are public.
"""

import os
from typing import Any
from uuid import uuid4

from celery import Celery

app = Celery("tasks", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])


@app.task
def count_words(text: str) -> int:
    """Count words: a task of this application's own, for its own workers."""
    return len(text.split())


def contract(name: str) -> dict[str, Any]:
    """The request to store a pattern of this name."""
    return {"data": {"pattern_name": name, "pattern_type": "code", "language": "python", "template_code": "..."}}


def store(name: str) -> Any:
    """Store a pattern, and return the dictionary of its ModelResult."""
    correlation_id = str(uuid4())
    sent = app.send_task("storage.insert", kwargs={"contract": contract(name)}, task_id=correlation_id, queue="storage")
    return sent.get(timeout=30)


@app.task
def announce(result: dict[str, Any]) -> None:
    """Say that a pattern is stored: called with the dictionary of the job's ModelResult."""
    print(f"stored {result['data']['pattern_name']}")


@app.task
def warn(correlation_id: str) -> None:
    """Say why a pattern is not stored: called with the id of the job, whose exception has the ModelResult."""
    print(f"not stored: {app.AsyncResult(correlation_id).result}")


def store_and_announce(name: str) -> None:
    """Store a pattern, and have this application's own workers say how it went."""
    # A worker of pattern-storage sends them, and without a queue it would send them to its own: `celery` is the queue
    # that `celery -A tasks worker` takes from.
    app.send_task(
        "storage.insert",
        kwargs={"contract": contract(name)},
        queue="storage",
        link=announce.s().set(queue="celery"),
        link_error=warn.s().set(queue="celery"),
    )
