"""One peer's workers and driver on emptied servers, warm: what each measurement begins with."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.environment import variables
from bench.peers.processes import Driver, Workers
from bench.peers.registry import Peer
from bench.peers.round_trips import counted
from bench.peers.servers import Servers

#: Jobs that go first: every process has imported, connected and prepared its statements then.
WARM_UP = 200
#: Results read of each drain; reading all would only take time.
SAMPLE = 200
#: Jobs whose latency is taken, one at a time, at most, and seconds between them.
PROBES = 200
PAUSE = 0.005
#: Jobs a second of the flow that is the same for all queues.
FLOW = 500
#: Seconds that a drain may take, and those without a new row after which the rest of another queue's jobs is lost.
DRAIN_TIMEOUT, LOST_AFTER = 300.0, 20.0
#: Seconds after the last row until what is left to do, results and acknowledgements, is done for certain.
SETTLE = 0.3


@dataclass
class Session:
    """Workers that run and a driver that waits for orders."""

    peer: Peer
    servers: Servers
    workers: Workers
    driver: Driver
    folder: Path

    def drain(self, jobs: int, first: int | None = None) -> dict[str, float]:
        """Fill the queue while the workers stand still, let them go, and return what each job cost.

        A peer that loses jobs is measured by those that it did.

        Args:
            jobs: How many to put there.
            first: After how many to stop looking; after all of them by default, and then results are read too.
        """
        looked_at = first or jobs
        already, memory = self.servers.new_rows(), self.servers.redis_bytes()
        self.workers.pause()
        filled = self.driver.do("enqueue", count=jobs, many=True)
        memory = self.servers.redis_bytes() - memory
        counts, cpu = self.servers.counts(), self.workers.cpu_seconds()
        if self.servers.new_rows() != already:
            raise RuntimeError(f"{self.peer.name}: some process went on working while all should stand still")
        self.workers.resume()
        done, seconds = self._wait_rows(already, looked_at)
        if lost := max(0, looked_at - done):
            print(f"{self.peer.name} lost {lost} of {jobs} jobs", flush=True)
        if first is None:
            time.sleep(SETTLE)
        cost = self.servers.counts().per_job(counts, done)
        cpu_ms = 1000 * (self.workers.cpu_seconds() - cpu) / done
        measured = {
            "jobs_per_second": done / seconds,
            "cpu_ms": cpu_ms,
            "memory_mib": self.workers.memory_mib(),
            "fill_per_second": jobs / filled["seconds"],
            "queued_kib": memory / jobs / 1024,
            **cost,
        }
        if first is None and not lost:
            self.driver.do("collect", sample=SAMPLE)
        return measured

    def latency(self, jobs_per_second: float, seconds: float) -> dict[str, Any]:
        """Return milliseconds from enqueue to result, one job at a time: alone, and beside a flow of others.

        The flow is half the rate that this queue can do, and FLOW where it can do half as much again.
        """
        # Drivers of their own: Celery's goes on listening for every job that it ever enqueued.
        with self._driver() as prober, self._driver() as other:
            measured: dict[str, Any] = {"low_ms": _probe(prober, seconds)}
            if jobs_per_second > 1.5 * FLOW:
                measured["same_ms"], _ = _beside(prober, other, FLOW, seconds)
            measured["half_ms"], measured["half_rate"] = _beside(prober, other, jobs_per_second / 2, seconds)
        return measured

    def alone(self, seconds: float) -> list[float]:
        """Return milliseconds from enqueue to result, one job at a time, with nothing beside."""
        with self._driver() as prober:
            return _probe(prober, seconds)

    def _driver(self) -> Driver:
        return _driver(self.peer, self.servers, self.folder)

    def _wait_rows(self, already: int, wanted: int) -> tuple[int, float]:
        """Return how many rows there are at the moment when enough are, and after how many seconds.

        After few looks: each counts them all. If no more come, fewer are returned.
        """
        begun = time.perf_counter()
        before, came_after = 0, 0.0
        while (found := self.servers.new_rows() - already) < wanted:
            passed = time.perf_counter() - begun
            if found != before:
                before, came_after = found, passed
            elif found and passed > came_after + LOST_AFTER and self.peer.requirements:
                return found, came_after
            if passed > DRAIN_TIMEOUT:
                raise RuntimeError(f"{self.peer.name}: {found} of {wanted} jobs done in {passed:.0f} s")
            self.workers.check()
            left = (wanted - found) * passed / found if found else 0.05
            # The first look sees a few jobs late, from which the rest would seem to take long.
            time.sleep(min(max(left / 2, 0.005), max(0.05, wanted / 100_000)))
        return found, time.perf_counter() - begun


@contextmanager
def session(
    peer: Peer, servers: Servers, processes: int, folder: Path, *, keep: bool = False, database_url: str | None = None
) -> Iterator[Session]:
    """Yield a warm session, on emptied servers, or with the patterns that are there.

    Args:
        peer: The peer.
        servers: The servers.
        processes: How many worker processes.
        folder: For logs.
        keep: Leave the patterns that are there.
        database_url: What the workers connect to; PostgreSQL itself if left out.
    """
    servers.empty(keep=keep)
    environment = variables(database_url or servers.database_url, servers.redis_url)
    with ExitStack() as stack:
        # The driver first: where a peer keeps its queue in PostgreSQL, that makes the tables.
        driver = stack.enter_context(_driver(peer, servers, folder))
        workers = stack.enter_context(Workers(peer, processes, environment, folder / f"{peer.name}.log"))
        # saq looks for abandoned jobs when it starts, and takes some that it has just begun for such.
        workers.wait_idle()
        for _ in range(2):  # those that were not there yet the first time are the second
            driver.do("enqueue", count=WARM_UP, many=True)
            driver.do("collect", sample=SAMPLE)
            workers.wait_idle()
        yield Session(peer, servers, workers, driver, folder)


def postgres_round_trips(peer: Peer, servers: Servers, processes: int, folder: Path, jobs: int) -> float:
    """Return how often workers wait for PostgreSQL, for each job.

    The proxy that counts slows them down, so nothing else is measured in this session.
    """
    with (
        counted(servers.database_url) as proxy,
        session(peer, servers, processes, folder, database_url=proxy.url) as warm,
    ):
        before = proxy.round_trips
        warm.drain(jobs)
        return (proxy.round_trips - before) / jobs


def enqueue(peer: Peer, servers: Servers, folder: Path, *, one_by_one: int, at_once: int) -> dict[str, float]:
    """Return calls a second without any worker: one by one, and many at once."""
    servers.empty()
    with _driver(peer, servers, folder) as driver:
        driver.do("enqueue", count=50, many=False)
        one = driver.do("enqueue", count=one_by_one, many=False)
        many = driver.do("enqueue", count=at_once, many=True)
    return {
        "enqueue_per_second": one_by_one / one["seconds"],
        "enqueue_cpu_us": 1e6 * one["cpu"] / one_by_one,
        "enqueue_many_per_second": at_once / many["seconds"],
    }


def _driver(peer: Peer, servers: Servers, folder: Path) -> Driver:
    environment = variables(servers.database_url, servers.redis_url)
    return Driver(peer, servers.patterns, environment, folder / f"{peer.name}-driver.log")


def _beside(prober: Driver, other: Driver, rate: float, seconds: float) -> tuple[list[float], float]:
    """Return milliseconds from enqueue to result beside a flow, and the jobs a second that it had."""
    other.order("flow", rate=rate, seconds=seconds + 0.5)
    time.sleep(0.3)
    taken = _probe(prober, seconds, warm_up=0)
    flow = other.answer()
    return taken, flow["sent"] / flow["seconds"]


def _probe(driver: Driver, seconds: float, warm_up: int = 10) -> list[float]:
    if warm_up:
        driver.do("probe", count=warm_up, seconds=seconds, pause=PAUSE)
    taken = driver.do("probe", count=PROBES, seconds=seconds, pause=PAUSE)
    return [1000 * one for one in taken["seconds"]]
