"""Mixins for `unittest.TestCase`, and for Django's `TestCase` and `SimpleTestCase` as well."""

from contextlib import AbstractContextManager
from typing import Any

from pattern_storage.testing.inline_mode import InlineMode, inline
from pattern_storage.testing.job_log import SubmittedJob
from pattern_storage.testing.recorded_mode import RecordedMode, recorded
from pattern_storage.testing.servers import shared_servers


class _Case:
    """Base of both mixins, which need `unittest.TestCase` behind them."""

    jobs: RecordedMode | InlineMode

    def setUp(self) -> None:  # unittest's name
        """Begin to note or to execute jobs."""
        self.jobs = self.enterContext(self._mode())  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]

    def _mode(self) -> AbstractContextManager[RecordedMode | InlineMode]:
        raise NotImplementedError

    def assert_enqueued(self, *, count: int | None = None, **wanted: Any) -> SubmittedJob:
        """See `JobLog.assert_enqueued`."""
        return self.jobs.jobs.assert_enqueued(count=count, **wanted)

    def assert_not_enqueued(self, **wanted: Any) -> None:
        """See `JobLog.assert_not_enqueued`."""
        self.jobs.jobs.assert_not_enqueued(**wanted)


class RecordedJobs(_Case):
    """Notes the jobs of each test in `self.jobs` and sends nothing: `class MyTest(RecordedJobs, TestCase)`."""

    jobs: RecordedMode

    def _mode(self) -> AbstractContextManager[RecordedMode]:
        return recorded()


class InlineJobs(_Case):
    """Executes the jobs of each test at once, in a database of its own: `class MyTest(InlineJobs, TestCase)`."""

    jobs: InlineMode

    def _mode(self) -> AbstractContextManager[InlineMode]:
        return inline(self.create_database())

    def create_database(self) -> str:
        """Return the URL of the database for this test."""
        servers = shared_servers()
        url = servers.create_database()
        self.addCleanup(servers.drop_database, url)  # type: ignore[attr-defined]
        return url
