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


def store(name: str) -> Any:
    """Store a pattern, and return the dictionary of its ModelResult."""
    correlation_id = str(uuid4())
    contract = {
        "data": {"pattern_name": name, "pattern_type": "code", "language": "python", "template_code": "..."},
    }
    sent = app.send_task("storage.insert", kwargs={"contract": contract}, task_id=correlation_id, queue="storage")
    return sent.get(timeout=30)
