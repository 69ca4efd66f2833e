"""Pages of the patterns: a list, and one with its fields, its relatives and its jobs. Never their code."""

from functools import partial
from typing import Any
from uuid import UUID

from tornado import web

from pattern_storage.storage import job_labels, jobs, pattern_pages
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.pattern_pages import ShownPattern
from pattern_storage.tasks.flower.pages import words
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.jobs import about

#: Patterns on a page, and jobs on that of one.
PAGE, JOBS = 50, 20


class PatternsPage(PageHandler):
    """The list, GET /patterns: those of a name, or by when they were last written."""

    tab = "patterns"

    async def get(self) -> None:
        """Show them."""
        name, since, until = self.given("name"), self.moment("since"), self.moment("until")
        filters = {key: value for key in ("name", "since", "until") if (value := self.given(key))}
        following = None
        if name:
            found = await self.backend.ask(partial(pattern_pages.named, name=name))
        else:
            after, after_id = self.moment("after"), self.identifier("after_id")
            ask = partial(
                pattern_pages.changed, since=since, until=until, limit=PAGE + 1,
                after=(after, after_id) if after and after_id else None,
            )  # fmt: skip
            found = await self.backend.ask(ask)
            if len(found) > PAGE:
                last = found[PAGE - 1]
                following = filters | {"after": last.updated_at.isoformat(), "after_id": last.id}
        self.page("patterns.html", patterns=found[:PAGE], filters=filters, following=following)


class PatternPage(PageHandler):
    """One pattern, GET /patterns/ID."""

    tab = "patterns"

    async def get(self, text: str) -> None:
        """Show it."""
        try:
            pattern_id = UUID(text)
        except ValueError:
            raise web.HTTPError(404, "A pattern has an id: a UUID") from None
        found = await self.backend.ask(partial(pattern_pages.find, pattern_id=pattern_id))
        if found is None:
            raise web.HTTPError(404, "There is no pattern of this id: it was deleted, or never written")
        same = await self.backend.ask(partial(pattern_pages.named, name=found.pattern_name))
        wanted = JobFilter(pattern_name=found.pattern_name)
        page = await self.backend.ask(partial(jobs.list_jobs, wanted=wanted, limit=JOBS))
        self.page(
            "pattern.html", pattern=found, rows=self._rows(found),
            derived=await self.backend.ask(partial(pattern_pages.derived, pattern_id=pattern_id)),
            same=[each for each in same if each.id != pattern_id], jobs=page.jobs, more=page.next is not None,
            labels=await self.backend.ask(partial(job_labels.find, ids=[job.correlation_id for job in page.jobs])),
            about=about,
        )  # fmt: skip

    def _rows(self, found: ShownPattern) -> list[tuple[str, Any, str]]:
        """Return names, values and links."""
        parent = found.parent_pattern_id
        rows: list[tuple[str, Any, str]] = [
            ("Type", found.pattern_type, ""),
            ("Language", found.language, ""),
            ("Category", found.category, ""),
            ("Description", found.description, ""),
            ("Source", found.source, ""),
            ("Derived from", found.parent_name, self.href("pattern", parent) if parent else ""),
            ("Tags", ", ".join(found.tags), ""),
            ("Confidence", words.score(found.confidence_score), ""),
            ("Success rate", words.score(found.success_rate), ""),
            ("Used", words.plural(found.usage_count, "time"), ""),
            ("Complexity", found.complexity_score, ""),
            ("Maintainability", words.score(found.maintainability_score), ""),
            ("Performance", words.score(found.performance_score), ""),
            ("Created", f"{words.time(found.created_at)} UTC by {words.text(found.created_by, 100)}", ""),
            ("Last written", f"{words.time(found.updated_at)} UTC", ""),
            ("Template", words.size(found.template_bytes), ""),
            ("Example", words.size(found.example_bytes), ""),
            ("Context", words.size(found.context_bytes) if found.context_bytes > len("{}") else None, ""),
        ]
        return [row for row in rows if row[1] not in (None, "", words.NOTHING)]


ROUTES: list[tuple[str, str, type[Any]]] = [
    ("patterns", r"/patterns", PatternsPage),
    ("pattern", r"/patterns/([0-9a-fA-F-]{32,36})", PatternPage),
]
