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
from bench.peers.servers import Servers

#: Jobs that go first: every process has imported, connected and prepared its statements then.
WARM_UP = 200
#: Results read of each drain; reading all would only take time.
SAMPLE = 200
#: Jobs whose latency is taken, one at a time, at most, and seconds between them.
PROBES = 200
PAUSE = 0.005
#: Seconds that a drain may take.
DRAIN_TIMEOUT = 300.0
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

    def drain(self, jobs: int) -> dict[str, float]:
        """Fill the queue while the workers stand still, let them go, and return what each job cost."""
        already = self.servers.rows()
        self.workers.pause()
        filled = self.driver.do("enqueue", count=jobs, many=True)
        counts, cpu = self.servers.counts(), self.workers.cpu_seconds()
        if self.servers.rows() != already:
            raise RuntimeError(f"{self.peer.name}: some process went on working while all should stand still")
        begun = time.perf_counter()
        self.workers.resume()
        self._wait_rows(already + jobs, jobs)
        seconds = time.perf_counter() - begun
        time.sleep(SETTLE)
        cost = self.servers.counts().per_job(counts, jobs)
        cpu_ms = 1000 * (self.workers.cpu_seconds() - cpu) / jobs
        memory = self.workers.memory_mib()
        self.driver.do("collect", sample=SAMPLE)
        return {"jobs_per_second": jobs / seconds, "cpu_ms": cpu_ms, "memory_mib": memory, **cost} | {
            "fill_per_second": jobs / filled["seconds"]
        }

    def latency(self, jobs_per_second: float, seconds: float) -> dict[str, Any]:
        """Return milliseconds from enqueue to result, one job at a time: alone, and beside a flow of half the rate."""
        # Drivers of their own: Celery's goes on listening for every job that it ever enqueued.
        with self._driver() as prober, self._driver() as other:
            prober.do("probe", count=10, seconds=seconds, pause=PAUSE)
            alone = prober.do("probe", count=PROBES, seconds=seconds, pause=PAUSE)
            other.order("flow", rate=jobs_per_second / 2, seconds=seconds + 0.5)
            time.sleep(0.3)
            beside = prober.do("probe", count=PROBES, seconds=seconds, pause=PAUSE)
            flow = other.answer()
        return {
            "low_ms": [1000 * taken for taken in alone["seconds"]],
            "half_ms": [1000 * taken for taken in beside["seconds"]],
            "half_rate": flow["sent"] / flow["seconds"],
        }

    def _driver(self) -> Driver:
        return _driver(self.peer, self.servers, self.folder)

    def _wait_rows(self, wanted: int, jobs: int) -> None:
        """Return at the moment the last row is there, after few looks: each counts the whole table."""
        begun, start = time.perf_counter(), wanted - jobs
        while (found := self.servers.rows()) < wanted:
            passed = time.perf_counter() - begun
            if passed > DRAIN_TIMEOUT:
                raise RuntimeError(f"{self.peer.name}: {found - start} of {jobs} jobs done in {passed:.0f} s")
            self.workers.check()
            left = (wanted - found) * passed / (found - start) if found > start else 0.05
            time.sleep(min(max(left / 2, 0.005), 0.5))


@contextmanager
def session(peer: Peer, servers: Servers, processes: int, folder: Path) -> Iterator[Session]:
    """Yield a warm session."""
    servers.empty()
    environment = variables(servers.database_url, servers.redis_url)
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


def _driver(peer: Peer, servers: Servers, folder: Path) -> Driver:
    environment = variables(servers.database_url, servers.redis_url)
    return Driver(peer, servers.patterns, environment, folder / f"{peer.name}-driver.log")


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
