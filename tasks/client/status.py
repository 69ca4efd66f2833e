"""Status of a job: the QUEUED marker of the client, and what Redis and PostgreSQL say together.

QUEUED is written by the client when it has sent a job, unless a state stands there already; a row in the outbox is
QUEUED too (`storage.ledger.state`). A job of which neither Redis nor PostgreSQL knows anything is UNKNOWN.
"""

import json
from typing import Any

from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.tasks.client.result_document import read_document, result_key
from pattern_storage.vocabulary import JobState


def marker(status: JobState) -> str:
    """Return the result document that the client itself writes: QUEUED at submission, REVOKED when it cancels."""
    return json.dumps({"status": status, "result": None, "traceback": None, "children": []})


#: What stands under a job's result key from its submission until a worker says more.
QUEUED = marker(JobState.QUEUED)


def queued_marker(contract: ModelContractPatternStorage, settings: Settings) -> tuple[Any, ...]:
    """Return the command that marks a job as QUEUED: `status` tells it from UNKNOWN."""
    # NX: a worker may be quicker than this, and its STARTED or result stays.
    return (
        "SET",
        result_key(contract.correlation_id, settings.key_prefix),
        QUEUED,
        "NX",
        "EX",
        int(settings.result_expires),
    )


def parse_status(meta: bytes | str | None) -> str:
    """Return a job's status: UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED.

    What is unreadable is a FAILURE, as `parse_result` says: a caller that waited for a final state would wait for ever.
    """
    if meta is None:
        return JobState.UNKNOWN
    document = read_document(meta)
    return JobState.FAILURE if document is None else str(document["status"])


def combined_status(meta: bytes | str | None, known: str) -> str:
    """Return the status of a job that Redis does not know, or not legibly: PostgreSQL's, if that knows it."""
    return parse_status(meta) if known == JobState.UNKNOWN else known
