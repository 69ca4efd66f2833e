"""Page of the jobs: a list by filter, whose filter is its address."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import hexdigits
from uuid import UUID

from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import job_labels, jobs, open_jobs
from pattern_storage.storage.job_filter import OPERATIONS, Cursor, JobFilter
from pattern_storage.storage.job_labels import JobLabel
from pattern_storage.storage.job_row import JobRow
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.flower.pages import broker_jobs
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.broker_jobs import BrokerJobs
from pattern_storage.tasks.operate.operator import CANCELLABLE
from pattern_storage.vocabulary import ListedState

#: Jobs on a page.
PAGE = 50

#: Jobs in the broker that are shown above a list of jobs in all states.
PREVIEW = 5

#: Hexadecimal digits of an id, and the fewest of its beginning that are looked up; pages show eight.
DIGITS, SHORTEST = 32, 6

#: Jobs are counted up to here: nobody needs a larger figure, and counting costs.
COUNT_LIMIT = 10_000

#: Parameters of the address that are filters, and the fields of `JobFilter` that they stand for.
FILTERS = {
    "state": "states", "operation": "operation", "error_type": "error_type", "name": "pattern_name", "queue": "queue",
    "id": "correlation_id", "since": "since", "until": "until",
}  # fmt: skip

#: Orders of the list: the word of the address, what it sorts by, and whether it is descending.
SORTS = {
    "newest": ("time", True), "oldest": ("time", False), "longest": ("duration", True), "shortest": ("duration", False),
}  # fmt: skip


def describe_job(job: JobRow, labels: Mapping[UUID, JobLabel]) -> str:
    """Return a line about a job, as far as its contract or its row in the ledger says."""
    label = labels.get(job.correlation_id)
    return str(label) if label else " ".join(filter(None, (job.operation, job.pattern_name))) or "a job"


class JobsHandler(PageHandler):
    """Base of list and actions, which have the same filter."""

    tab = "jobs"
    filter_names = FILTERS

    def wanted(self) -> JobFilter:
        """Return the filter. Raises FilterInvalid."""
        return JobFilter.parse({FILTERS[name]: value for name, value in self.filters().items()})


class JobsPage(JobsHandler):
    """The list, GET /jobs."""

    async def get(self) -> None:
        """Show the jobs that match the filter. The beginning of an id leads to its job."""
        if ids := range_of(self.parameter("id")):
            first, last = ids
            found = await self.backend.run(job_labels.ids_that_begin, first=first, last=last)
            if len(found) != 1:
                many = "More than one job has" if found else "No job that has begun has"
                raise web.HTTPError(404, f"{many} a correlation id that begins like this; give the whole one")
            self.redirect(self.href("job", found[0]))
            return
        wanted, filters = self.wanted(), self.filters()
        order = self.choice("order", SORTS, "newest")
        sort, descending = SORTS[order]
        cursor = self.parameter("after")
        page = await self.backend.run(
            jobs.list_jobs, wanted=wanted, sort=sort, descending=descending, limit=PAGE,
            after=Cursor.parse(cursor, sort) if cursor else None,
        )  # fmt: skip
        # Jobs that are all on one page are not counted: for a rare name that would read an index to its end again.
        whole = page.jobs if sort == "time" and not cursor and page.next is None else None
        if whole is None:
            total, counted = await self.backend.run(jobs.estimate, wanted=wanted, limit=COUNT_LIMIT)
        else:
            total, counted = len(whole), True
        labels = await self.backend.run(job_labels.find, ids=[job.correlation_id for job in page.jobs])
        waiting, trouble = None, ""
        if not cursor and sort == "time":
            limit = PAGE if wanted.states else PREVIEW
            try:
                waiting = await self.backend.in_thread(broker_jobs.find, self.backend.settings, wanted, limit)
            except BrokerUnavailable as error:
                trouble = str(error)
        if filters.keys() == {"id"} and not page.jobs and not (waiting and waiting.found):
            # It may be far behind in a queue: its own page looks there.
            self.redirect(self.href("job", wanted.correlation_id))
            return
        self.page(
            "jobs.html", jobs=page.jobs, labels=labels, waiting=waiting, trouble=trouble,
            names=await self.names_of(waiting.messages if waiting else []), describe_job=describe_job,
            describe_message=broker_jobs.describe_message,
            can_cancel=await self._can_cancel(wanted, waiting, whole),
            can_retry=await self._can_retry(wanted, whole),
            total=total, counted=counted, searched=None if page.is_full else open_jobs.SEARCHED,
            filters=filters, order=order,
            orders=list(SORTS), states=list(ListedState), operations=OPERATIONS,
            following=page.next and filters | {"order": order, "after": str(page.next)},
        )  # fmt: skip

    async def _can_cancel(self, wanted: JobFilter, waiting: BrokerJobs | None, whole: Sequence[JobRow] | None) -> bool:
        """Whether any job that matches can be cancelled, or may be where nobody has looked."""
        among = wanted.among(*CANCELLABLE)
        if not among or wanted.is_empty or not self.may(Role.OPERATOR):
            return False
        if waiting is None or waiting.found:
            return True
        if whole is not None:
            return any(job.state in among for job in whole)
        found, no_more = await self.backend.run(jobs.estimate, wanted=replace(wanted, states=among), limit=1)
        return bool(found) or not no_more

    async def _can_retry(self, wanted: JobFilter, whole: Sequence[JobRow] | None) -> bool:
        """Whether any failed job that matches can be sent again."""
        among = wanted.among(ListedState.FAILURE)
        if not among or wanted.is_empty or not self.may(Role.OPERATOR):
            return False
        if whole is not None and not any(job.state in among for job in whole):
            return False
        failed = replace(wanted, states=among)
        return bool(await self.backend.run(jobs.count_jobs, wanted=failed, limit=1, can_be_retried=True))


def range_of(text: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last id that begin like this, or None if the text is no beginning of an id."""
    digits = text.strip().replace("-", "").lower()
    if not SHORTEST <= len(digits) < DIGITS or set(digits) - set(hexdigits):
        return None
    return UUID(digits.ljust(DIGITS, "0")), UUID(digits.ljust(DIGITS, "f"))
