"""Collection of many jobs' results from the result backend and PostgreSQL. Does no I/O itself."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.outgoing import Request
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.result_resolver import ResultResolver
from pattern_storage.tasks.errors import JobTimeout


class AnyJob(Protocol):
    """A job of either client."""

    correlation_id: UUID
    _request: Request | None


J = TypeVar("J", bound=AnyJob)


class ResultCollector(Generic[J]):
    """State of one caller's wait for many jobs, each resolved by a `ResultResolver`.

    Args:
        jobs: the jobs to wait for; one that occurs twice is yielded once.
        prefix: prefix of all Redis keys.
        has_database: whether PostgreSQL can be asked at all.
    """

    def __init__(self, jobs: Iterable[J], prefix: str, *, has_database: bool) -> None:
        self._prefix = prefix
        self._pending: dict[str, tuple[J, ResultResolver]] = {}
        self._uncertain: list[UUID] = []
        for job in jobs:
            fingerprint = None if job._request is None else job._request.fingerprint
            resolver = ResultResolver(job.correlation_id, fingerprint, has_database=has_database)
            self._pending.setdefault(result_key(job.correlation_id, prefix), (job, resolver))

    def __bool__(self) -> bool:
        """Whether there is a job without a result."""
        return bool(self._pending)

    def keys(self) -> list[str]:
        """Return the result keys, which are channels too, of the jobs that have no result yet."""
        return list(self._pending)

    def ids(self) -> list[UUID]:
        """Return the ids of the jobs that have no result yet."""
        return [job.correlation_id for job, _ in self._pending.values()]

    def on_documents(self, documents: Iterable[tuple[str, bytes | None]]) -> Iterator[tuple[J, ModelResult]]:
        """Take the documents under these result keys; yield each job that they decide, with its result."""
        for key, document in documents:
            if key in self._pending:
                job, resolver = self._pending[key]
                result = resolver.on_result_backend(document)
                if result is not None:
                    del self._pending[key]
                    yield job, result
                elif resolver.needs_database:
                    self._uncertain.append(job.correlation_id)

    def take_uncertain(self) -> list[UUID]:
        """Return the ids of jobs whose states to look up in PostgreSQL now, once, for `on_states`."""
        uncertain, self._uncertain = self._uncertain, []
        return uncertain

    def on_states(self, states: Mapping[UUID, tuple[str, ModelResult | None]]) -> Iterator[tuple[J, ModelResult]]:
        """Take states and results from PostgreSQL; yield each job that they decide, with its result."""
        for correlation_id, (status, stored) in states.items():
            key = result_key(correlation_id, self._prefix)
            job, resolver = self._pending[key]
            result = resolver.on_database(status, stored)
            if result is not None:
                del self._pending[key]
                yield job, result

    def on_timeout(self, timeout: float) -> Iterator[tuple[J, ModelResult]]:
        """Yield the results that are known at the deadline, then raise JobTimeout if a job has none."""
        late: list[JobTimeout] = []
        for job, resolver in self._pending.values():
            try:
                result = resolver.on_timeout(timeout)
            except JobTimeout as error:
                late.append(error)
            else:
                yield job, result
        if late:
            raise JobTimeout(late[0].correlation_id, timeout, late[0].status, len(late) - 1)
