"""Resolution of one job's result from the result backend and PostgreSQL. Does no I/O itself."""

from uuid import UUID

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.result_document import (
    checked_result,
    ended_by_celery,
    matches_request,
    read_document,
    result_of,
)
from pattern_storage.tasks.client.status import status_of
from pattern_storage.tasks.errors import JobTimeout
from pattern_storage.vocabulary import ErrorType, JobState

#: Seconds after which a waiting client polls, in case a publication was lost with a connection.
POLL_INTERVAL = 1.0


class ResultResolver:
    """State of one caller's wait for one job's result. Both clients pass it documents and ledger rows.

    The result backend is read first and usually has the result. PostgreSQL decides where the result has expired, where
    Celery ended the job (which may have committed), or where the id has the result of another request.

    Args:
        correlation_id: the job.
        request: the caller's `Request.fingerprint`; None if it is not known: then the result of any request is taken.
        has_database: whether PostgreSQL can be asked at all.
    """

    def __init__(self, correlation_id: UUID, request: str | None, *, has_database: bool) -> None:
        self._correlation_id = correlation_id
        self._request = request
        self.has_database = has_database
        self._reported: ModelResult | None = None
        self._status: str = JobState.UNKNOWN
        self._looked_up = False
        #: Whether the result backend refuses writes now, so that no result can arrive there. Callers set it.
        self.backend_refuses = False
        #: Whether to look the job up in PostgreSQL now, for `on_database`.
        self.needs_database = False

    def on_result_backend(self, meta: bytes | str | None) -> ModelResult | None:
        """Take the result document in Redis, None if there is none; return the result if that decides it."""
        if meta is None:
            self._status, self._reported = JobState.UNKNOWN, None
        else:
            document = read_document(meta)
            self._status, self._reported = status_of(document), result_of(self._correlation_id, document)
        uncertain = self._reported is not None and (
            ended_by_celery(self._reported) or not matches_request(self._request, self._reported)
        )
        if self._reported is None or self._may_be_replaced:
            # Looked up once, not at each poll.
            uncertain = self.backend_refuses or (not self._looked_up and (meta is None or self._may_be_replaced))
        elif not (uncertain and self.has_database):
            return checked_result(self._correlation_id, self._request, self._reported)
        self.needs_database = self.has_database and uncertain
        return None

    @property
    def _may_be_replaced(self) -> bool:
        """Whether the document in Redis is unreadable, and the job's own result would replace it."""
        if self._reported is None or self._status == JobState.SUCCESS:
            return False
        return self._reported.metadata.get("error_type") == ErrorType.UNREADABLE_RESULT

    def on_database(self, status: str, stored: ModelResult | None) -> ModelResult | None:
        """Take the state and result from the ledger; return the result if that decides it."""
        self._looked_up, self.needs_database = True, False
        if stored is not None:
            return checked_result(self._correlation_id, self._request, stored)
        if self._reported is not None and not self._may_be_replaced and matches_request(self._request, self._reported):
            return self._reported
        if status != JobState.UNKNOWN:
            self._status = status
        return None

    def needs_final_lookup(self, timeout: float) -> bool:
        """Whether to look into PostgreSQL before giving up: Redis may have missed the result.

        Not if the first lookup was just now, because the timeout is 0.
        """
        return self.has_database and (timeout > 0 or not self._looked_up)

    def on_timeout(self, timeout: float) -> ModelResult:
        """Return the result at the deadline. Raises JobTimeout if there is none after `timeout` seconds."""
        if self._reported is not None:
            return checked_result(self._correlation_id, self._request, self._reported)
        raise JobTimeout(self._correlation_id, timeout, self._status)
