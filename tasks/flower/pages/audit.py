"""Page of the audit: the actions of operators, with actor, time, subject and count."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from tornado import web

from pattern_storage.storage import audit, job_labels
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.base import PageHandler

#: Entries on a page.
PAGE = 100

#: Largest value of `audit_log.id`, a bigint.
LARGEST = 2**63 - 1


class AuditPage(PageHandler):
    """The audit, GET /audit."""

    tab = "audit"
    filter_names = ("actor", "action")

    async def get(self) -> None:
        """Show the newest entries, or those before a given one."""
        filters, before = self.filters(), self.parameter("before")
        if before and not (before.isascii() and before.isdecimal() and int(before) <= LARGEST):
            raise web.HTTPError(400, "before should be the number of an entry")
        entries = await self.backend.run(
            audit.entries, actor=filters.get("actor"), action=filters.get("action"),
            before=int(before) if before else None, limit=PAGE + 1,
        )  # fmt: skip
        following = filters | {"before": entries[PAGE - 1].id} if len(entries) > PAGE else None
        shown = entries[:PAGE]
        ids = {job for entry in shown for job in jobs_of(entry.filter)}
        labels = await self.backend.run(job_labels.find, ids=ids) if ids else {}
        self.page("audit.html", entries=shown, filters=filters, following=following, labels=labels, jobs_of=jobs_of)


def jobs_of(about: Mapping[str, Any]) -> list[UUID]:
    """Return the first few jobs that an entry is about."""
    listed = about.get("jobs")
    ids = [*listed][: formatting.FEW] if isinstance(listed, list | dict) else [about.get("id")]
    found: list[UUID] = []
    for text in ids:
        with suppress(ValueError):
            found.append(UUID(str(text)))
    return found
