"""Collection of many jobs' results, from what the result backend and PostgreSQL say. Does no I/O itself."""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.outgoing import Request
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.result_resolver import ResultResolver
from pattern_storage.tasks.errors import JobTimeout


class AnyJob(Protocol):
    """What both clients' jobs have."""

    correlation_id: UUID
    _request: Request | None


J = TypeVar("J", bound=AnyJob)


class ResultCollector(Generic[J]):
    """State of one caller's wait for many jobs, each resolved as `ResultResolver` does.

    Args:
        jobs: what to wait for; one that is there twice is answered once.
        prefix: what all Redis keys begin with.
        has_database: whether PostgreSQL can be asked at all.
    """

    def __init__(self, jobs: Iterable[J], prefix: str, *, has_database: bool) -> None:
        self._has_database = has_database
        self._pending: dict[str, tuple[J, ResultResolver]] = {}
        self._uncertain: dict[str, UUID] = {}
        for job in jobs:
            asked = None if job._request is None else job._request.fingerprint
            resolver = ResultResolver(job.correlation_id, asked, has_database=has_database)
            self._pending.setdefault(result_key(job.correlation_id, prefix), (job, resolver))

    def __bool__(self) -> bool:
        """Whether there is a job without a result."""
        return bool(self._pending)

    def keys(self) -> list[str]:
        """Return the result keys, which are channels too, of the jobs that have no result yet."""
        return list(self._pending)

    def pending(self) -> list[tuple[str, UUID]]:
        """Return the keys and ids of the jobs that have no result yet."""
        return [(key, job.correlation_id) for key, (job, _) in self._pending.items()]

    def on_document(self, key: str, meta: bytes | str | None) -> tuple[J, ModelResult] | None:
        """Take what stands under a key now; return the job and its result if that decides it."""
        if key not in self._pending:
            return None
        job, resolver = self._pending[key]
        found = self._decided(key, job, resolver.on_result_backend(meta))
        if resolver.needs_database:
            self._uncertain[key] = job.correlation_id
        return found

    def uncertain(self) -> Iterator[tuple[str, UUID]]:
        """Yield the keys and ids of jobs that PostgreSQL is to be asked about; `on_database` takes what it says."""
        while self._uncertain:
            yield self._uncertain.popitem()

    def on_database(self, key: str, status: str, known: ModelResult | None) -> tuple[J, ModelResult] | None:
        """Take a job's state and result from the ledger; return the job and its result if that decides it."""
        job, resolver = self._pending[key]
        return self._decided(key, job, resolver.on_database(status, known))

    def on_timeout(self, timeout: float) -> Iterator[tuple[J, ModelResult]]:
        """Yield what results there are at the deadline, then raise JobTimeout if a job has none."""
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

    def _decided(self, key: str, job: J, result: ModelResult | None) -> tuple[J, ModelResult] | None:
        if result is None:
            return None
        del self._pending[key]
        return job, result
