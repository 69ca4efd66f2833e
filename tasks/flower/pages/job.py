"""Page of a job: state, reason, timeline and links, but never its template code."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from tornado import web

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import job_labels
from pattern_storage.storage.job_details import SUBMITTED, Event, JobDetails, find_job
from pattern_storage.storage.job_labels import JobLabel
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.broker_jobs import describe_message
from pattern_storage.tasks.flower.pages.jobs import describe_job
from pattern_storage.tasks.flower.pages.timeline import steps
from pattern_storage.tasks.operate.message_search import find_messages
from pattern_storage.tasks.operate.operator import CANCELLABLE
from pattern_storage.tasks.operate.stored_result import StoredResult, find_stored_result
from pattern_storage.tasks.operate.waiting_message import WaitingMessage
from pattern_storage.vocabulary import FINAL_STATES, JobState, ListedState

#: Seconds for which a job's message is looked for, enough for some ten thousand messages.
SEARCH_SECONDS = 0.08

#: States that last unless an operator acts.
ENDED = frozenset({*map(str, FINAL_STATES), str(ListedState.DEAD)})


class JobPage(PageHandler):
    """The page of a job, GET /jobs/ID."""

    tab = "jobs"

    async def get(self, text: str) -> None:
        """Show the job from PostgreSQL, Redis and Flower's record, each of which may know what the others do not."""
        try:
            job_id = UUID(text)
        except ValueError:
            raise web.HTTPError(404, "A job has a correlation id: a UUID") from None
        details = await self.backend.run(find_job, correlation_id=job_id)
        label = (await self.backend.run(job_labels.find, ids=[job_id])).get(job_id)
        seen = self.application.events.state.tasks.get(str(job_id))
        # Where only Redis can know the job, and does not answer, that is what the page says.
        ask = self.backend.try_in_thread if details or seen else self.backend.in_thread
        state = (
            details.job.state if details else str(await ask(self.backend.client.get(job_id).status) or JobState.UNKNOWN)
        )
        settings, waiting = self.backend.settings, None
        if details is None and state not in ENDED:
            found = await ask(find_messages, settings, [job_id], seconds=SEARCH_SECONDS)
            waiting = (found or {}).get(job_id)
        if state == JobState.UNKNOWN:
            # Another application sent it, or the marker of its state has expired.
            if (known := seen or waiting) is None:
                reason = "never submitted, forgotten, or so far behind in a queue that it was not found"
                raise web.HTTPError(404, f"Nothing is known under this id: {reason}")
            state = str(known.state)
        stored = await self.backend.try_in_thread(find_stored_result, settings, job_id)
        self.page(
            "job.html", job_id=job_id, state=state, is_final=state in ENDED,
            title=await self._title(job_id, details, label, seen, waiting),
            reason=reason_of(details), rows=self._rows(details, label, seen, stored, waiting),
            buttons=self._buttons(job_id, details, state),
            events=steps(
                [
                    *(details.events if details else ()),
                    *([Event(waiting.sent_at, SUBMITTED)] if waiting and waiting.sent_at else ()),
                    *(stored.events if stored else ()),
                ],
                seen,
            ),
        )  # fmt: skip

    async def _title(
        self,
        job_id: UUID,
        details: JobDetails | None,
        label: JobLabel | None,
        seen: Any,
        waiting: WaitingMessage | None,
    ) -> str:
        if details:
            return describe_job(details.job, {job_id: label} if label else {})
        if waiting:
            return describe_message(waiting, await self.names_of([waiting]))
        return str(seen.args or seen.name or "a job") if seen else "A job that no worker has described yet"

    def _rows(
        self,
        details: JobDetails | None,
        label: JobLabel | None,
        seen: Any,
        stored: StoredResult | None,
        waiting: WaitingMessage | None,
    ) -> list[tuple[str, Any, str]]:
        """Return the names, values and links of the details; the page leaves out those without a value."""
        rows: list[tuple[str, Any, str]] = []
        if waiting:
            rows += [
                ("Operation", waiting.operation, ""),
                ("Queue", waiting.queue, self.href("queue", waiting.queue)),
                ("Due", waiting.eta and f"{formatting.time(waiting.eta)} UTC", ""),
            ]
        if details:
            job = details.job
            name = job.pattern_name or (label.pattern_name if label and label.patterns is None else None)
            rows += [
                ("Operation", job.operation, ""),
                ("Pattern", name, self.href("jobs", name=name) if name and not details.is_import else ""),
                pattern_row(details.pattern_id or (label and label.pattern_id), label, self.href),
                ("Patterns", label and label.patterns, ""),
                ("Due", label and label.due and f"{formatting.time(label.due)} UTC", ""),
                ("Queue", job.queue, ""),
                ("Worker", job.worker, self.href("worker", job.worker) if job.worker else ""),
                ("Attempts", job.attempts, ""),
                ("Waited", formatting.milliseconds(job.waited_ms), ""),
                ("Took", formatting.milliseconds(job.duration_ms), ""),
            ]
            if details.retried_from:
                rows.append(("Sent again for", details.retried_from, self.href("job", details.retried_from)))
            rows += [("Sent again as", job_id, self.href("job", job_id)) for job_id in details.retries]
            if job.state in FINAL_STATES:
                rows.append(("Result", result_location(stored), ""))
        if seen:
            rows.append(("Flower's record", "what Flower has seen of it", self.href("task", seen.uuid)))
        return rows

    def _buttons(self, job_id: UUID, details: JobDetails | None, state: str) -> list[tuple[str, str, str]]:
        """Return the labels, URLs and CSS classes of the actions that this user may take."""
        found = []
        if details and details.is_import:
            found.append(("The run", self.href("import-run", job_id), "btn-outline-secondary"))
        if self.may(Role.OPERATOR):
            if details and details.is_dead_letter:
                found.append(("Replay…", self.href("replay-letters", id=job_id), "btn-primary"))
            # To send a cancelled job again is not what most people come for: the button is not the primary one.
            kind = "btn-outline-secondary" if state == ListedState.REVOKED else "btn-primary"
            if details and details.can_be_retried and not details.retries:
                found.append(("Send again…", self.href("retry-jobs", id=job_id), kind))
            if state in CANCELLABLE or state == JobState.PROGRESS:
                found.append(("Cancel…", self.href("cancel-jobs", id=job_id), "btn-outline-danger"))
        return found


def pattern_row(found: Any, label: JobLabel | None, href: Callable[..., str]) -> tuple[str, Any, str]:
    """Return the row with a link to the pattern, or to the first pattern of a batch."""
    name = "First pattern" if label and label.patterns is not None else "Pattern id"
    try:
        return name, found, href("pattern", UUID(str(found)))
    except ValueError:
        # The id comes from a contract that was never checked.
        return name, found, ""


def reason_of(details: JobDetails | None) -> str:
    """Return why the job failed or is retried, "" if nothing went wrong."""
    if details is None or details.job.error_type is None:
        return ""
    return f"{details.job.error_type}: {details.job.error or ''}"


def result_location(stored: StoredResult | None) -> str:
    """Return where the result of a job that has ended is stored, and for how long."""
    if stored is None:
        return "not in Redis, or Redis does not answer; the ledger has it"
    return "in Redis" + (f" for another {formatting.seconds(stored.seconds_left)}" if stored.seconds_left else "")
