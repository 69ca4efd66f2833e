"""Tornado handlers that take the place of Flower's where it shows too much, or to everybody."""

from typing import Any

from flower.api import BaseApiHandler
from flower.views.monitor import Metrics
from tornado import web

from pattern_storage.tasks.flower.own_list import DurableRevoke, TaskPage


class PrivateMetrics(Metrics):  # type: ignore[misc]  # Flower has no types
    """Flower's own figures, which name workers and tasks, for those who log in."""

    @web.authenticated
    async def get(self) -> None:
        """Write them in Prometheus' format."""
        await super().get()


class ResultsForbidden(BaseApiHandler):  # type: ignore[misc]
    """Refuses to hand out results, and to write into their place what no client of ours understands."""

    @web.authenticated
    def get(self, *_: Any) -> None:
        """Answer 403."""
        raise web.HTTPError(403, "Results hold template code and are not shown here: use 'pattern-storage result ID'")

    post = get


HANDLERS: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/metrics", PrivateMetrics),
    (r"/api/task/(?:result|apply|abort)/(.+)", ResultsForbidden),
    (r"/api/task/revoke/(.+)", DurableRevoke),
    (r"/task/(.+)", TaskPage),
]
