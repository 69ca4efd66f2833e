"""What a caller is told of a job, from what Redis and PostgreSQL say of it. Decides, and asks nobody itself."""

from uuid import UUID

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.results import answer_to, answers, parse_result, parse_status, was_cut_short
from pattern_storage.tasks.errors import JobTimeout


class Inquiry:
    """One caller's wait for one job's result. Both clients feed it with what they hear, and ask where it says so.

    Redis is asked first and usually has the answer. PostgreSQL has the last word: where Redis has forgotten the job,
    says how Celery ended it (which may have been at its commit), or has another request's outcome under the id.

    Args:
        correlation_id: the job.
        request: the fingerprint of what the caller asked for; None if it is not known, then any result will do.
        has_database: whether PostgreSQL can be asked at all.
    """

    def __init__(self, correlation_id: UUID, request: str | None, *, has_database: bool) -> None:
        self._correlation_id = correlation_id
        self._request = request
        self._has_database = has_database
        self._heard: ModelResult | None = None
        self._status = parse_status(None)
        self._asked = False
        #: Whether PostgreSQL is to be asked now; `learn` takes what it says.
        self.wants_database = False

    def hear(self, meta: bytes | str | None) -> ModelResult | None:
        """Take what Redis says now; return the answer if that settles it."""
        self._status = parse_status(meta)
        self._heard = parse_result(self._correlation_id, meta)
        doubtful = self._heard is not None and (was_cut_short(self._heard) or not answers(self._request, self._heard))
        if self._heard is not None and not (doubtful and self._has_database):
            return answer_to(self._request, self._heard)
        # A job that Redis does not know is asked for once, not at each look.
        self.wants_database = self._has_database and (doubtful or (meta is None and not self._asked))
        return None

    def learn(self, status: str, known: ModelResult | None) -> ModelResult | None:
        """Take what PostgreSQL says; return the answer if that settles it."""
        self._asked, self.wants_database = True, False
        if known is not None:
            return answer_to(self._request, known)
        if self._heard is not None and answers(self._request, self._heard):
            return self._heard
        if status != parse_status(None):
            self._status = status
        return None

    def wants_last_word(self, timeout: float) -> bool:
        """Whether PostgreSQL is to be asked before the end, though Redis knows the job: it may have missed the result.

        Not if it has been asked at once and there was no time to wait.
        """
        return self._has_database and (timeout > 0 or not self._asked)

    def end(self, timeout: float) -> ModelResult:
        """Return the answer when time is over. Raises JobTimeout if `timeout` seconds were not enough for one."""
        if self._heard is not None:
            return answer_to(self._request, self._heard)
        raise JobTimeout(self._correlation_id, timeout, self._status)
