"""Pages of the patterns: a list, and each with its fields, relatives and jobs, but never its template code."""

from typing import Any
from uuid import UUID

from tornado import web

from pattern_storage.storage import job_labels, jobs, pattern_pages
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.pattern_pages import ShownPattern
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.jobs import describe_job

#: Patterns in the list, and jobs on the page of a pattern.
PAGE, JOBS = 50, 20


class PatternsPage(PageHandler):
    """The list, GET /patterns: by the time of the last write, or all of one name."""

    tab = "patterns"
    filter_names = ("name", "since", "until")

    async def get(self) -> None:
        """Show the list."""
        name, since, until = self.parameter("name"), self.moment("since"), self.moment("until")
        filters, following = self.filters(), None
        if name:
            found = await self.backend.run(pattern_pages.named, name=name)
        else:
            after, after_id = self.moment("after"), self.identifier("after_id")
            found = await self.backend.run(
                pattern_pages.changed, since=since, until=until, limit=PAGE + 1,
                after=(after, after_id) if after and after_id else None,
            )  # fmt: skip
            if len(found) > PAGE:
                last = found[PAGE - 1]
                following = filters | {"after": last.updated_at.isoformat(), "after_id": last.id}
        self.page("patterns.html", patterns=found[:PAGE], filters=filters, following=following)


class PatternPage(PageHandler):
    """The page of a pattern, GET /patterns/ID."""

    tab = "patterns"

    async def get(self, text: str) -> None:
        """Show the pattern."""
        try:
            pattern_id = UUID(text)
        except ValueError:
            raise web.HTTPError(404, "A pattern has an id: a UUID") from None
        found = await self.backend.run(pattern_pages.find, pattern_id=pattern_id)
        if found is None:
            raise web.HTTPError(404, "There is no pattern of this id: it was deleted, or never written")
        same = await self.backend.run(pattern_pages.named, name=found.pattern_name)
        wanted = JobFilter(pattern_name=found.pattern_name)
        page = await self.backend.run(jobs.list_jobs, wanted=wanted, limit=JOBS)
        self.page(
            "pattern.html", pattern=found, rows=self._rows(found),
            derived=await self.backend.run(pattern_pages.derived, pattern_id=pattern_id),
            same=[other for other in same if other.id != pattern_id], jobs=page.jobs, more=page.next is not None,
            labels=await self.backend.run(job_labels.find, ids=[job.correlation_id for job in page.jobs]),
            describe_job=describe_job,
        )  # fmt: skip

    def _rows(self, found: ShownPattern) -> list[tuple[str, Any, str]]:
        """Return the names, values and links of the fields; the page leaves out those without a value."""
        parent = found.parent_pattern_id
        return [
            ("Type", found.pattern_type, ""),
            ("Language", found.language, ""),
            ("Category", found.category, ""),
            ("Description", found.description, ""),
            ("Source", found.source, ""),
            ("Derived from", found.parent_name, self.href("pattern", parent) if parent else ""),
            ("Tags", ", ".join(found.tags), ""),
            ("Confidence", formatting.score(found.confidence_score), ""),
            ("Success rate", formatting.score(found.success_rate), ""),
            ("Used", formatting.plural(found.usage_count, "time"), ""),
            ("Complexity", found.complexity_score, ""),
            ("Maintainability", formatting.score(found.maintainability_score), ""),
            ("Performance", formatting.score(found.performance_score), ""),
            ("Created", f"{formatting.time(found.created_at)} UTC by {formatting.text(found.created_by, 100)}", ""),
            ("Last written", f"{formatting.time(found.updated_at)} UTC", ""),
            ("Template", formatting.size(found.template_bytes), ""),
            ("Example", formatting.size(found.example_bytes), ""),
            ("Context", formatting.size(found.context_bytes) if found.context_bytes > len("{}") else None, ""),
        ]
