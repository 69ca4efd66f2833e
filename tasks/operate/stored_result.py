"""Stored results of jobs: when one was written to Redis, and for how long it stays there."""

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from redis.exceptions import RedisError, ResponseError

from pattern_storage.config.settings import Settings
from pattern_storage.storage.job_details import STORED, Event
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.result_document import read_document, result_key
from pattern_storage.tasks.errors import ResultBackendUnavailable
from pattern_storage.tasks.operate.waiting_message import parse_time
from pattern_storage.tasks.redis_errors import explain_failure
from pattern_storage.vocabulary import FINAL_STATES


@dataclass(frozen=True)
class StoredResult:
    """The result document of a job that has ended. `at` is None where it does not say when it was stored."""

    at: datetime | None
    seconds_left: float | None

    @property
    def events(self) -> list[Event]:
        """The timeline's event."""
        return [] if self.at is None else [Event(self.at, STORED)]


def find_stored_result(settings: Settings, correlation_id: UUID) -> StoredResult | None:
    """Return the result of a job in Redis; None if the job has not ended, or its result has expired.

    Blocks. Raises ResultBackendUnavailable.
    """
    key = result_key(correlation_id, settings.key_prefix)
    try:
        with redis_connections.connect(settings) as results, results.pipeline(transaction=False) as pipeline:
            document, left = pipeline.get(key).pttl(key).execute()
    except ResponseError:
        # Something else under the key.
        return None
    except RedisError as error:
        raise ResultBackendUnavailable(explain_failure("the result backend", error)) from error
    found = None if document is None else read_document(document)
    if found is None or found["status"] not in FINAL_STATES:
        return None
    return StoredResult(parse_time(found.get("date_done")), cast("int", left) / 1000 if left > 0 else None)
