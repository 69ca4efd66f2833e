"""Pages of the queues: the jobs that wait in each, since when, and the workers that serve it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tornado import web

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.storage import figures, pauses
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.job_options import QUEUE_NAME
from pattern_storage.storage.pauses import Pausable, Pause
from pattern_storage.tasks.errors import QueueUnreadable
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.broker_jobs import describe_message
from pattern_storage.tasks.flower.pages.plots import Line, lines, sparkline
from pattern_storage.tasks.operate.queue_actions import check_queue
from pattern_storage.tasks.operate.queues import QueueDepth, WaitingPage, depths, redis_queues

#: Messages on the page of a queue.
PAGE = 50

#: Seconds that a page waits for the answers of workers, and for the first throughput.
PATIENCE = 2.0

#: Seconds after which workers are asked again which queues they serve; less if a queue seems to have no worker.
ASK_AGAIN, ASK_AGAIN_SOON = 30.0, 5.0


class QueuesHandler(PageHandler):
    """Base of the pages and actions of the queues."""

    tab = "queues"

    async def servers(self) -> tuple[dict[str, list[str]], bool]:
        """Return the workers of each queue, and whether all have answered; ask them again if that is long ago.

        They are asked more often while a queue seems to have none: a worker that has just resumed it has not said so.
        """
        found = self._answered()
        age = time.monotonic() - self.settings.get("pattern_storage_workers_asked", float("-inf"))
        if age > (ASK_AGAIN if all(found.values()) else ASK_AGAIN_SOON):
            self.settings["pattern_storage_workers_asked"] = time.monotonic()
            asking = self.settings["pattern_storage_workers_asking"] = self.application.update_workers()
            await asyncio.wait([asking], timeout=PATIENCE)
            found = self._answered()
        return found, self.settings["pattern_storage_workers_asking"].done()

    def _answered(self) -> dict[str, list[str]]:
        """Return the workers of each queue by their last answers."""
        found: defaultdict[str, list[str]] = defaultdict(list, {name: [] for name in QUEUES})
        alive = {name for name, worker in self.application.events.state.workers.items() if worker.alive}
        for worker, about in self.application.workers.items():
            for queue in about.get("active_queues") or []:
                name = str(queue.get("name"))
                if worker in alive and QUEUE_NAME.fullmatch(name):
                    found[name].append(worker)
        return dict(found)

    async def depths(self, known: Iterable[str] = ()) -> list[QueueDepth]:
        """Return the depth of each queue: ours, those that workers serve, and all in which jobs wait."""
        return await self.backend.in_thread(depths, self.backend.settings, {*known, *self._answered()})

    async def depth(self, name: str) -> QueueDepth:
        """Return the depth of one queue. Raises HTTPError 404 if the broker does not know it."""
        for depth in await self.depths({name}):
            if depth.name == name:
                return depth
        raise web.HTTPError(404, f"the broker tells nothing of a queue {name}")

    async def paused(self) -> dict[str, Pause]:
        """Return the queues that are paused."""
        return await self.backend.run(pauses.paused, kind=Pausable.QUEUE)

    async def queue(self, name: str) -> str:
        """Return the name of a queue. Raises HTTPError 404."""
        if name in self._answered() or name in await self.paused():
            return name
        try:
            return await self.backend.in_thread(check_queue, self.backend.settings, name)
        except FilterInvalid as error:
            raise web.HTTPError(404, str(error)) from None

    async def history(self) -> dict[str, list[float]]:
        """Return the throughput of the queues in the last hour, empty if it is not known in time."""
        return await self.figures.throughput.get(PATIENCE) or {}


def label_of(values: Sequence[float]) -> str:
    """Return the text of a plot of throughput for a screen reader."""
    return f"Jobs a second in the last hour, at most {formatting.rate(max(values, default=0.0))}"


class QueuesPage(QueuesHandler):
    """The list, GET /queues."""

    async def get(self) -> None:
        """Show the queues."""
        servers, known = await self.servers()
        paused, history = await self.paused(), await self.history()
        # A queue that is empty and has no worker at this moment is shown for an hour after its last job.
        queues = await self.depths(name for name in (*paused, *history) if QUEUE_NAME.fullmatch(name))
        rates = await self.backend.run(figures.queue_rates)
        self.page(
            "queues.html", queues=queues, paused=paused, rates=rates, servers=servers, known=known,
            plots={name: sparkline(values, label_of(values)) for name, values in history.items()},
        )  # fmt: skip


class QueuePage(QueuesHandler):
    """Messages that wait in one queue, GET /queues/of/NAME."""

    async def get(self, name: str) -> None:
        """Show the messages, the oldest first."""
        queue = await self.queue(name)
        offset = self.parameter("from")
        place = int(offset) if offset.isascii() and offset.isdecimal() and len(offset) < 10 else 0
        waiting = await self.backend.in_thread(self._waiting, queue, place)
        depth = await self.depth(queue)
        paused, values = await self.paused(), (await self.history()).get(queue, [0.0, 0.0])
        servers, known = await self.servers()
        self.page(
            "queue.html", queue=depth, waiting=waiting, pause=paused.get(queue), describe_message=describe_message,
            names=await self.names_of(waiting.messages), servers=servers.get(queue, []), known=known,
            plot=lines(
                [Line("jobs a second", values)], label_of(values), formatting.rate, ("1 h ago", "30 min ago", "now")
            ),
        )  # fmt: skip

    def _waiting(self, queue: str, place: int) -> WaitingPage:
        try:
            with redis_queues(self.backend.settings) as queues:
                return queues.waiting(queue, offset=place, limit=PAGE)
        except QueueUnreadable:
            return WaitingPage([], 0, None)


class BrokerPage(QueuesHandler):
    """Redirect from Flower's page of the broker, which knows nothing of claims and priorities, to ours."""

    def get(self) -> None:
        """Redirect."""
        self.redirect(self.href("queues"))
