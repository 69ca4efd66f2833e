"""Collector of gauges that PostgreSQL, queue and result backend know, read at each scrape within a time limit."""

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import Collector

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage import dead_letters, import_health, outbox
from pattern_storage.storage.connection import connect
from pattern_storage.storage.import_health import ImportHealth
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.outbox import OutboxSize
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.observability.metrics.gauges import of_broker, of_imports, of_postgresql, of_servers
from pattern_storage.tasks.queue_depths import count_messages, read_depths
from pattern_storage.tasks.queue_names import find_names
from pattern_storage.tasks.sender import create_app

logger = get_logger(__name__)

#: Seconds. Prometheus gives up a scrape after 10; the other metrics must not be lost for a server that is down.
TIMEOUT = 2.0


class Probe:
    """Asks one server. Late answers are discarded, and the server is not asked again before it has answered."""

    def __init__(self, server: str, ask: Callable[[], Any]) -> None:
        self.server = server
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: Future[Any] | None = None
        self._down = False

    def begin(self) -> Future[Any]:
        """Ask in a thread of its own, unless the last question is still open: a hung server must not gather threads."""
        with self._lock:
            if self._asking is None or self._asking.done():
                self._asking = Future()
                threading.Thread(
                    target=self._run, args=(self._asking,), name=f"metrics-{self.server}", daemon=True
                ).start()
            return self._asking

    def _run(self, future: Future[Any]) -> None:
        try:
            future.set_result(self._ask())
        except Exception as error:
            future.set_exception(error)

    def end(self, future: Future[Any], deadline: float) -> Any:
        """Return the answer, None if there is none by then; say once that the server is down."""
        try:
            answer = future.result(max(deadline - time.monotonic(), 0.0))
        except Exception as error:
            if not self._down:
                reason = " ".join(str(error).split()) or f"no answer within {TIMEOUT:g} s"
                logger.warning("metrics: cannot ask %s: %s", self.server, reason)
            self._down = True
            return None
        self._down = False
        return answer


#: Messages by queue and state, unacknowledged ones, and seconds that the oldest of each queue has waited.
BrokerAnswer = tuple[list[tuple[str, str, int]], int | None, dict[str, float]]


class ServersCollector(Collector):
    """The gauges of docs/metrics.md that come from servers. Those of a server that does not answer are left out."""

    def __init__(self, settings: Settings, queues: Callable[[], Collection[str]] = tuple) -> None:
        self._settings = settings
        self._queues = queues
        #: Queues that this worker has ever taken jobs from: one that is paused is still measured.
        self._served: set[str] = set()
        self._probes = [
            Probe("postgresql", lambda: asyncio.run(self._ask_postgresql())),
            Probe("broker", self._ask_broker),
            Probe("results", self._ask_results),
        ]

    def collect(self) -> Iterator[Metric]:
        """Ask all servers at the same time; yield the gauges of their answers."""
        deadline = time.monotonic() + TIMEOUT
        asked = [(probe, probe.begin()) for probe in self._probes]
        answers = {probe.server: probe.end(future, deadline) for probe, future in asked}
        yield of_servers({server: answer is not None for server, answer in answers.items()})
        if answers["postgresql"] is not None:
            size, letters, imports, schedules_age = answers["postgresql"]
            yield from of_postgresql(size, letters)
            yield from of_imports(imports, schedules_age)
        if answers["broker"] is not None:
            yield from of_broker(*answers["broker"])

    async def _ask_postgresql(self) -> tuple[OutboxSize, int, list[ImportHealth], float | None]:
        async with asyncio.timeout(TIMEOUT):
            async with await connect(
                self._settings.database, application_name="pattern-storage metrics", timeout=TIMEOUT
            ) as connection:
                return (
                    await outbox.measure(connection),
                    await dead_letters.count(connection),
                    await import_health.measure(connection),
                    await import_health.schedules_age(connection),
                )

    def _ask_broker(self) -> BrokerAnswer:
        """Return messages by queue and state; of Redis also the number of unacknowledged messages, and ages."""
        settings = self._settings
        if not settings.broker_kind.is_redis:
            with closing(create_app(settings)) as app, app.connection_for_read() as connection:
                connection.connect()
                return [(queue, "waiting", count_messages(connection, queue)) for queue in QUEUES], None, {}
        self._served.update(self._queues())
        with redis_connections.connect(settings, settings.broker) as server:
            names = find_names(settings, server, self._served)
            depths = list(read_depths(server, names, settings.key_prefix))
            unacked = int(server.hlen(f"{settings.key_prefix}{UNACKED_KEYS['unacked_key']}"))
        counts = [
            (depth.name, state, count)
            for depth in depths
            for state, count in (("waiting", depth.waiting), ("claimed", depth.claimed))
        ]
        return counts, unacked, {depth.name: message_age(depth.oldest) for depth in depths}

    def _ask_results(self) -> bool:
        with redis_connections.connect(self._settings) as server:
            return bool(server.ping())


def message_age(oldest: Iterable[bytes | str]) -> float:
    """Return how long the oldest of these messages waits, 0 if there is none, or none that says when it was sent."""
    sent = [at for raw in oldest if (at := _sent_at(raw)) is not None]
    return max(time.time() - min(sent), 0.0) if sent else 0.0


def _sent_at(raw: bytes | str) -> float | None:
    try:
        at = float(json.loads(raw)["headers"]["sent_at"])
        return at if math.isfinite(at) else None
    # Anybody may have put the message there.
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
