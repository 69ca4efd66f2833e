"""Page of the audit: who did what, to what, to how many, and when."""

from functools import partial
from typing import Any

from tornado import web

from pattern_storage.storage import audit
from pattern_storage.tasks.flower.pages.base import PageHandler

#: Entries on a page.
PAGE = 100

#: Of `audit_log.id`.
LARGEST = 2**63 - 1


class AuditPage(PageHandler):
    """The audit, GET /audit."""

    tab = "audit"

    async def get(self) -> None:
        """Show the newest entries, or those before one."""
        filters = {name: value for name in ("actor", "action") if (value := self.given(name))}
        before = self.given("before")
        if before and not (before.isascii() and before.isdecimal() and int(before) <= LARGEST):
            raise web.HTTPError(400, "before should be the number of an entry")
        ask = partial(
            audit.entries,
            actor=filters.get("actor"),
            action=filters.get("action"),
            before=int(before) if before else None,
            limit=PAGE + 1,
        )
        entries = await self.backend.ask(ask)
        following = filters | {"before": entries[PAGE - 1].id} if len(entries) > PAGE else None
        self.page("audit.html", entries=entries[:PAGE], filters=filters, following=following)


ROUTES: list[tuple[str, str, type[Any]]] = [("audit", r"/audit", AuditPage)]
