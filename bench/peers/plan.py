"""Plan of one run: its measurements, their order, and about how long it takes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import sizes
from bench.peers.batches import SIZES, batches
from bench.peers.recorded import Rows
from bench.peers.registry import OURS, PEERS, Peer
from bench.peers.results import Results
from bench.peers.servers import Servers
from bench.peers.session import enqueue, postgres_round_trips, session

#: Peers of the parts where each takes minutes, if none are named.
COMPARED = {
    "processes": (OURS.name, "celery", "dramatiq", "saq", "pgqueuer"),
    "rows": (OURS.name, "celery", "huey", "pgqueuer"),
}
COMPARED["queued"] = COMPARED["rows"]
#: Parts that are measured peer by peer, in rounds.
SINGLE = ("jobs", "enqueue", "latency")
#: Seconds that a peer takes in a round of a part, about, and what a part takes besides.
SECONDS = {"jobs": 15, "enqueue": 6, "latency": 8, "processes": 32, "rows": 144, "queued": 180, "batches": 40}
BESIDES = {"rows": 150}
#: Jobs of which the round trips to PostgreSQL are counted, and seconds that this takes.
COUNTED, COUNTING = 1_000, 8
#: Jobs in the queue in the parts that fill it for each size.
FEW = 3_000
#: Peers that are measured in the rounds after, usually.
FINALISTS = 3


@dataclass(frozen=True)
class Plan:
    """Parts, peers and sizes of one run."""

    parts: Sequence[str]
    peers: Sequence[str] | None = None
    rounds: int = 3
    #: Rounds after these of ours and the peers that were best.
    finals: int = 0
    jobs: int = 10_000
    processes: int = 2
    #: The largest of growing numbers of rows and of queued jobs.
    most: int = 1_000_000
    #: Calls that enqueue: one by one, and at once.
    calls: tuple[int, int] = (4_000, 8_000)
    #: Of each of the three latencies.
    seconds: float = 1.5
    #: Measure only what the ratios need.
    quick: bool = False

    def peers_of(self, part: str) -> list[Peer]:
        """Return the peers of one part."""
        if part == "batches":
            return [OURS]
        return [PEERS[name] for name in self.peers or COMPARED.get(part, tuple(PEERS))]

    @property
    def counts_round_trips(self) -> bool:
        """Whether round trips to PostgreSQL are counted, which takes a session of each peer."""
        return "jobs" in self.parts and not self.quick

    def all_peers(self) -> list[Peer]:
        """Return the peers of all parts."""
        wanted = {peer.name for part in self.parts for peer in self.peers_of(part)}
        return [peer for peer in PEERS.values() if peer.name in wanted]

    def jobs_of(self, part: str) -> int:
        """Return how many jobs are put into the queue at once."""
        return self.jobs if part in SINGLE else min(self.jobs, FEW)

    def rounds_of(self, part: str) -> int:
        """Return how often a part is measured; `rows` and `queued` measure each of their sizes several times."""
        return min(self.rounds, {"processes": 2, "rows": 1, "queued": 1}.get(part, self.rounds))

    def condition(self, part: str) -> str:
        """Return of how many values each figure of a part is the median, and of how many jobs."""
        rounds = self.rounds_of(part) * (sizes.REPEATED if part in ("rows", "queued") else 1)
        after = f", {self.finals} more of the best" if self.finals and part in SINGLE else ""
        return f"{rounds} rounds{after}, {self.jobs_of(part):,} jobs"


#: Metrics of which each has a best peer, and whether less is better.
BEST = (("jobs", "jobs_per_second", False), ("enqueue", "enqueue_per_second", False), ("latency", "low_ms:50", True))


def finalists(results: Mapping[str, Results]) -> list[Peer]:
    """Return ours and the best peer of each of the parts that were measured, in the order of all peers."""
    names = {OURS.name}
    for part, metric, less in BEST:
        rows = results[part].values() if part in results else {}
        others = {name: rows[name][metric].median for name in rows if not name.startswith(OURS.name)}
        if others:
            names.add((min if less else max)(others, key=others.__getitem__))
    return [peer for peer in PEERS.values() if peer.name in names]


def estimate(plan: Plan) -> float:
    """Return about how many seconds it takes on a machine that does nothing else."""
    singles = sum(SECONDS[part] for part in plan.parts if part in SINGLE)
    counting = COUNTING * len(plan.peers_of("jobs")) if plan.counts_round_trips else 0
    return (
        counting
        + plan.finals * FINALISTS * singles
        + sum(
            plan.rounds_of(part) * len(plan.peers_of(part)) * SECONDS[part] + BESIDES.get(part, 0)
            for part in plan.parts
        )
    )


def measure(plan: Plan, servers: Servers, folder: Path) -> Iterator[tuple[str, Rows]]:
    """Measure all of it; yield each part's name and values when it has been measured."""
    results = {part: Results(part) for part in plan.parts}
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s: {what}", flush=True)

    singles = [part for part in SINGLE if part in plan.parts]
    for peer in plan.peers_of("jobs") if plan.counts_round_trips else ():
        found = postgres_round_trips(peer, servers, plan.processes, folder, min(plan.jobs, COUNTED))
        results["jobs"].add(peer.name, {"postgres_round_trips": found})
        tell(f"PostgreSQL's round trips, {peer.name}")
    for number in range(plan.rounds if singles else 0):
        for peer in plan.peers_of(singles[0]):
            _single(plan, peer, servers, folder, results)
            tell(f"round {number + 1}, {peer.name}")
    best = finalists(results)
    for number in range(plan.finals if singles else 0):
        for peer in best:
            _single(plan, peer, servers, folder, results)
            tell(f"round {plan.rounds + number + 1}, {peer.name}")
    for part in singles:
        yield part, results[part].values()
    for part in plan.parts:
        if part in SINGLE:
            continue
        peers = plan.peers_of(part)
        for number in range(plan.rounds_of(part)):
            if part == "processes":
                sizes.processes(peers, servers, folder, plan.jobs_of(part), results[part])
            elif part == "batches":
                batches(servers, folder, results[part], [size for size in SIZES if size <= plan.most])
            elif part == "rows":
                chosen = [size for size in sizes.ROWS if size <= plan.most]
                sizes.rows(peers, servers, folder, plan.jobs_of(part), results[part], chosen)
            else:
                chosen = [size for size in sizes.QUEUED if size <= plan.most]
                sizes.queued(peers, servers, folder, results[part], chosen)
            tell(f"round {number + 1}, {part}")
        yield part, results[part].values()


def _single(plan: Plan, peer: Peer, servers: Servers, folder: Path, results: dict[str, Results]) -> None:
    if "jobs" in results or "latency" in results:
        with session(peer, servers, plan.processes, folder) as warm:
            drained = warm.drain(plan.jobs)
            if "jobs" in results:
                results["jobs"].add(peer.name, drained)
            if "latency" in results:
                results["latency"].add(peer.name, warm.latency(drained["jobs_per_second"], plan.seconds))
    if "enqueue" in results:
        one_by_one, at_once = plan.calls
        results["enqueue"].add(peer.name, enqueue(peer, servers, folder, one_by_one=one_by_one, at_once=at_once))
