"""Mixins for `unittest.TestCase`, and for Django's `TestCase` and `SimpleTestCase` as well."""

from contextlib import AbstractContextManager
from typing import Any

from pattern_storage.testing.inline_mode import InlineMode, inline
from pattern_storage.testing.job_log import SubmittedJob
from pattern_storage.testing.recorded_mode import RecordedMode, recorded
from pattern_storage.testing.servers import shared_servers


class _Case:
    """What both mixins use of `unittest.TestCase`."""

    jobs: RecordedMode | InlineMode

    def setUp(self) -> None:  # unittest's name
        super().setUp()  # type: ignore[misc]  # of the class that this is mixed into

    def _enter(self, context: AbstractContextManager[Any]) -> Any:
        return self.enterContext(context)  # type: ignore[attr-defined]

    def assert_enqueued(self, *, count: int | None = None, **wanted: Any) -> SubmittedJob:
        """See `JobLog.assert_enqueued`."""
        return self.jobs.jobs.assert_enqueued(count=count, **wanted)

    def assert_not_enqueued(self, **wanted: Any) -> None:
        """See `JobLog.assert_not_enqueued`."""
        self.jobs.jobs.assert_not_enqueued(**wanted)


class RecordedJobs(_Case):
    """Notes the jobs of each test in `self.jobs` and sends nothing: `class MyTest(RecordedJobs, TestCase)`."""

    jobs: RecordedMode

    def setUp(self) -> None:
        """Begin to note jobs."""
        self.jobs = self._enter(recorded())
        super().setUp()


class InlineJobs(_Case):
    """Executes the jobs of each test at once, in a database of its own: `class MyTest(InlineJobs, TestCase)`."""

    jobs: InlineMode

    def setUp(self) -> None:
        """Make the database, and begin to execute jobs."""
        self.jobs = self._enter(inline(self.create_database()))
        super().setUp()

    def create_database(self) -> str:
        """Return the URL of the database for this test."""
        servers = shared_servers()
        url = servers.create_database()
        self.addCleanup(servers.drop_database, url)  # type: ignore[attr-defined]
        return url
