"""Status of a job: the QUEUED marker of the client, and what Redis and PostgreSQL say together.

QUEUED is written by the client when it has sent a job, unless a state stands there already; a row in the outbox is
QUEUED too (`storage.ledger.state`). A job of which neither Redis nor PostgreSQL knows anything is UNKNOWN.
"""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import redis
from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.tasks.client.result_document import read_document, result_key
from pattern_storage.vocabulary import JobState


def marker(status: JobState) -> str:
    """Return the result document that the client itself writes: QUEUED at submission, REVOKED when it cancels."""
    return json.dumps({"status": status, "result": None, "traceback": None, "children": []})


#: What stands under a job's result key from its submission until a worker says more.
QUEUED = marker(JobState.QUEUED)
MARKED_AT_ONCE = 500


def mark_queued(results: "redis.Redis", jobs: Sequence[UUID], settings: Settings) -> None:
    """Mark jobs as QUEUED: `status` tells it from UNKNOWN.

    A result backend that is down takes nothing back of what was accepted.
    """
    try:
        for start in range(0, len(jobs), MARKED_AT_ONCE):
            with results.pipeline(transaction=False) as pipeline:
                for job in jobs[start : start + MARKED_AT_ONCE]:
                    # NX: a worker may be quicker than this, and its STARTED or result stays.
                    key = result_key(job, settings.key_prefix)
                    pipeline.set(key, QUEUED, nx=True, ex=int(settings.result_expires))
                pipeline.execute(raise_on_error=False)
    except (RedisError, OSError):
        pass


def parse_status(meta: bytes | str | None) -> str:
    """Return a job's status: UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED.

    What is unreadable is a FAILURE, as `parse_result` says: a caller that waited for a final state would wait for ever.
    """
    return JobState.UNKNOWN if meta is None else status_of(read_document(meta))


def status_of(document: dict[str, Any] | None) -> str:
    """Return what `parse_status` does; `document` is what `read_document` returned."""
    return JobState.FAILURE if document is None else str(document["status"])


def combined_status(meta: bytes | str | None, known: str) -> str:
    """Return the status of a job that Redis does not know, or not legibly: PostgreSQL's, if that knows it."""
    return parse_status(meta) if known == JobState.UNKNOWN else known
