"""Actions on one job, or on all that match a filter: cancel, and send again under a new id."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import job_labels, jobs
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.job_labels import JobLabel
from pattern_storage.storage.job_row import JobRow
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.flower.pages import broker_jobs, formatting
from pattern_storage.tasks.flower.pages.actions import ActionHandler, Question
from pattern_storage.tasks.flower.pages.jobs import JobsHandler, describe_job
from pattern_storage.tasks.operate.message_search import find_messages
from pattern_storage.tasks.operate.operator import CANCELLABLE, RETRIABLE
from pattern_storage.vocabulary import ListedState

#: A question describes each of so few jobs, and says the number of more.
DESCRIBED = 5


def _due(label: JobLabel | None) -> str:
    return f", due {formatting.time(label.due)} UTC" if label and label.due else ""


class JobAction(JobsHandler, ActionHandler):
    """An action on jobs in certain states."""

    needed_role = Role.OPERATOR
    #: States in which jobs that match a filter are acted on, and those in which a job of a given id is.
    states: tuple[ListedState, ...] = ()
    states_by_id: tuple[ListedState, ...] = ()

    def actionable(self) -> JobFilter | None:
        """Return the filter, narrowed to the states of the action; None if no job can match that."""
        wanted = self.wanted()
        among = wanted.among(*(self.states if wanted.correlation_id is None else self.states_by_id))
        return replace(wanted, states=among) if among else None

    async def question(self) -> Question:
        """Say how many there are."""
        now = datetime.now(UTC)
        count, more, descriptions = 0, False, list[str]()
        if (wanted := self.actionable()) is not None:
            count, more = await self.count(wanted.before(now))
            if 0 < count <= DESCRIBED:
                descriptions = await self._descriptions(wanted.before(now))
        filters = self.filters()
        text = f"{self.verb} {formatting.plural(count, 'job')}{' or more' if more else ''}?"
        back = self.href("job", filters["id"]) if filters.keys() == {"id"} else self.href("jobs", **filters)
        return Question(text, back, self._about(), self.filters_until(now), count, descriptions)

    async def _descriptions(self, wanted: JobFilter) -> list[str]:
        """Return a description of each of these few jobs."""
        found: list[JobRow] = []
        after = None
        while len(found) < DESCRIBED:
            page = await self.backend.run(jobs.list_jobs, wanted=wanted, after=after, limit=DESCRIBED)
            found += page.jobs
            if (after := page.next) is None:
                break
        labels = await self.backend.run(job_labels.find, ids=[job.correlation_id for job in found])
        if found or wanted.correlation_id is None:
            return [f"{job.state}: {describe_job(job, labels)}{_due(labels.get(job.correlation_id))}" for job in found]
        with suppress(BrokerUnavailable):
            messages = await self.backend.in_thread(find_messages, self.backend.settings, [wanted.correlation_id])
            names = await self.names_of(messages.values())
            return [f"{message.state}: {broker_jobs.describe_message(message, names)}" for message in messages.values()]
        return []

    async def count(self, wanted: JobFilter) -> tuple[int, bool]:
        """Return on how many jobs it would act, and whether there may be more."""
        count = await self.backend.run(jobs.count_jobs, wanted=wanted)
        return count, count >= jobs.COUNT_LIMIT

    def _about(self) -> dict[str, str]:
        return self.filters() or {"filter": "none: every job"}

    def back(self, count: int) -> str:
        """Lead to the job, or to the list."""
        filters = self.filters()
        done = {"did": self.past, "count": count}
        if filters.keys() <= {"id", "until"} and "id" in filters:
            return self.href("job", filters["id"], **done)
        return self.href("jobs", **filters | done)


class CancelJobs(JobAction):
    """Cancelling, GET and POST /jobs/cancel."""

    verb, past, dangerous = "Cancel", "cancelled", True
    states = states_by_id = CANCELLABLE
    consequence = (
        "Each job ends as REVOKED and never commits; a job that runs rolls back. Jobs that have ended by then stay as"
        " they are."
    )

    async def count(self, wanted: JobFilter) -> tuple[int, bool]:
        """Count the jobs in the broker as well."""
        if wanted.correlation_id is not None:
            # Cancelling needs no more than the id, wherever the job waits.
            return 1, False
        count, more = await super().count(wanted)
        if ListedState.QUEUED not in wanted.states:
            return count, more
        queued = replace(wanted, states=(ListedState.QUEUED,))
        waiting = await self.backend.in_thread(broker_jobs.find, self.backend.settings, queued, 0)
        return count + waiting.found, more or not waiting.complete

    async def act(self) -> int:
        """Cancel the jobs."""
        wanted = self.actionable()
        if wanted is None:
            return 0
        if wanted.correlation_id is not None:
            return len(await self.operator.cancel([wanted.correlation_id]))
        count = await self.operator.cancel_matching(wanted)
        await self.operator.record("cancel by filter", self._about(), count)
        return count


class RetryJobs(JobAction):
    """Sending failed jobs again, GET and POST /jobs/retry; a cancelled job only by its id, since it was not wanted."""

    verb, past = "Send again", "sent-again"
    states, states_by_id = (ListedState.FAILURE,), RETRIABLE
    consequence = (
        "Each job is sent again under a new correlation id, which refers to the old one. Jobs that were sent again"
        " before, queries and runs of imports are left out; a cancelled job is sent again from its own page only."
    )

    async def count(self, wanted: JobFilter) -> tuple[int, bool]:
        """Count the jobs that were not sent again before."""
        count = await self.backend.run(jobs.count_jobs, wanted=wanted, can_be_retried=True)
        return count, count >= jobs.COUNT_LIMIT

    async def act(self) -> int:
        """Send the jobs again."""
        wanted = self.actionable()
        if wanted is None:
            return 0
        if wanted.correlation_id is not None:
            return len((await self.operator.retry([wanted.correlation_id])).sent)
        count, _ = await self.operator.retry_matching(wanted)
        await self.operator.record("send again by filter", self._about(), count)
        return count
