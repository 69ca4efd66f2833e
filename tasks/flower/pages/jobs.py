"""Pages of the jobs: a list by filter, whose filter is its address, and the page of a job."""

from functools import partial
from typing import Any

from tornado import web

from pattern_storage.storage import jobs
from pattern_storage.storage.job_filter import OPERATIONS, Cursor, JobFilter
from pattern_storage.storage.jobs import JobRow
from pattern_storage.tasks.flower.pages import broker_jobs
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.operate.operator import CANCELLABLE, RETRIABLE
from pattern_storage.vocabulary import ListedState

#: Jobs on a page.
PAGE = 50

#: Jobs that wait in the broker, on a page of jobs in all states.
PREVIEW = 5

#: Jobs are counted up to here: more is not read by anybody, and counting costs.
COUNT_LIMIT = 10_000

#: Filters of the address, by their names in `JobFilter`.
FILTERS = {
    "state": "states", "operation": "operation", "error_type": "error_type", "name": "pattern_name", "queue": "queue",
    "id": "correlation_id", "since": "since", "until": "until",
}  # fmt: skip

#: What a list may be sorted by: the word of the address, what it sorts by, and whether downwards.
SORTS = {
    "newest": ("time", True), "oldest": ("time", False), "longest": ("duration", True), "shortest": ("duration", False),
}  # fmt: skip


def about(job: JobRow) -> str:
    """Return what a job is about, as far as anybody wrote it down."""
    return " ".join(filter(None, (job.operation, job.pattern_name))) or "a job"


class JobsHandler(PageHandler):
    """Reads the filter that list, confirmation and action have in common."""

    tab = "jobs"

    def filters(self) -> dict[str, str]:
        """Return the filter as the address has it."""
        return {name: value for name in FILTERS if (value := self.given(name))}

    def wanted(self) -> JobFilter:
        """Return the filter. Raises FilterInvalid."""
        return JobFilter.parse({FILTERS[name]: value for name, value in self.filters().items()})


class JobsPage(JobsHandler):
    """The list, GET /jobs."""

    async def get(self) -> None:
        """Show the jobs that the filter lets through."""
        wanted, filters = self.wanted(), self.filters()
        order = self.choice("order", SORTS, "newest")
        sort, descending = SORTS[order]
        cursor = self.given("after")
        ask = partial(
            jobs.list_jobs, wanted=wanted, sort=sort, descending=descending, limit=PAGE,
            after=Cursor.parse(cursor, sort) if cursor else None,
        )  # fmt: skip
        page = await self.backend.ask(ask)
        total = await self.backend.ask(partial(jobs.count_jobs, wanted=wanted, limit=COUNT_LIMIT))
        waiting = None
        if not cursor and sort == "time":
            limit = PAGE if wanted.states else PREVIEW
            waiting = await self.backend.in_thread(broker_jobs.find, self.backend.settings, wanted, limit)
        self.page(
            "jobs.html", jobs=page.jobs, waiting=waiting, can_cancel=bool(wanted.among(*CANCELLABLE)),
            can_retry=bool(wanted.among(*RETRIABLE)),
            total=total, counted=total < COUNT_LIMIT, filters=filters, order=order,
            orders=list(SORTS), states=list(ListedState), operations=OPERATIONS, about=about,
            following=page.next and filters | {"order": order, "after": str(page.next)},
        )  # fmt: skip


class FindJob(JobsHandler):
    """The search field, GET /jobs/find: leads to a job by its id, or to those of a pattern by its name."""

    async def get(self) -> None:
        """Lead there."""
        text = self.given("q")
        try:
            job = self.identifier("q")
        except web.HTTPError:
            job = None
        self.redirect(self.href("job", job) if job else self.href("jobs", name=text))


ROUTES: list[tuple[str, str, type[Any]]] = [
    ("jobs", r"/jobs", JobsPage),
    ("find-job", r"/jobs/find", FindJob),
]
