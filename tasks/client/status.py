"""Status of a job: the client's QUEUED marker, and the status that follows from Redis and PostgreSQL.

The client writes QUEUED when it has sent a job, unless the job has a state already; a row in the outbox is QUEUED too
(`storage.ledger.state`). A job that neither Redis nor PostgreSQL knows is UNKNOWN.
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
    """Return a result document without a result, as the client writes it for QUEUED and REVOKED."""
    return json.dumps({"status": status, "result": None, "traceback": None, "children": []})


#: A job's result document from its submission until a worker begins it.
QUEUED = marker(JobState.QUEUED)
MARKED_AT_ONCE = 500


def mark_queued(results: "redis.Redis", jobs: Sequence[UUID], settings: Settings) -> None:
    """Mark jobs as QUEUED, unless the result backend is down: the jobs have been accepted already."""
    try:
        for start in range(0, len(jobs), MARKED_AT_ONCE):
            with results.pipeline(transaction=False) as pipeline:
                for job in jobs[start : start + MARKED_AT_ONCE]:
                    # NX: a worker may have stored STARTED or a result already.
                    key = result_key(job, settings.key_prefix)
                    pipeline.set(key, QUEUED, nx=True, ex=int(settings.result_expires))
                pipeline.execute(raise_on_error=False)
    except (RedisError, OSError):
        pass


def parse_status(meta: bytes | str | None) -> str:
    """Return a job's status: UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED.

    An unreadable document is a FAILURE, as for `parse_result`: otherwise waiting for a final state would never end.
    """
    return str(JobState.UNKNOWN) if meta is None else status_of(read_document(meta))


def status_of(document: dict[str, Any] | None) -> str:
    """Return the same as `parse_status`, for a document that `read_document` has returned."""
    return str(JobState.FAILURE) if document is None else str(document["status"])


def readable_status(meta: bytes | str | None) -> str | None:
    """Return the same as `parse_status`; None where there is no readable document, and PostgreSQL may know the job."""
    document = None if meta is None else read_document(meta)
    return None if document is None else status_of(document)


def combined_status(meta: bytes | str | None, stored: str) -> str:
    """Return PostgreSQL's status of a job without a readable document, or the document's if PostgreSQL has none."""
    return parse_status(meta) if stored == JobState.UNKNOWN else str(stored)
