"""Plan of one run: its measurements, their order, and about how long it takes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import sizes
from bench.peers.batches import SIZES, batches
from bench.peers.registry import OURS, PEERS, Peer
from bench.peers.results import Results
from bench.peers.servers import Servers
from bench.peers.session import enqueue, session

#: Peers of the parts where each takes minutes, if none are named.
COMPARED = {"processes": (OURS.name, "celery", "dramatiq", "saq"), "rows": (OURS.name, "celery")}
COMPARED["queued"] = COMPARED["rows"]
#: Parts that are measured peer by peer, in rounds.
SINGLE = ("jobs", "enqueue", "latency")
#: Seconds that a peer takes in a round of a part, about, and what a part takes besides.
SECONDS = {"jobs": 8, "enqueue": 6, "latency": 8, "processes": 32, "rows": 48, "queued": 60, "batches": 40}
BESIDES = {"rows": 150}


@dataclass(frozen=True)
class Plan:
    """Parts, peers and sizes of one run."""

    parts: Sequence[str]
    peers: Sequence[str] | None = None
    rounds: int = 3
    jobs: int = 3_000
    processes: int = 2
    #: The largest of growing numbers of rows and of queued jobs.
    most: int = 1_000_000
    #: Calls that enqueue: one by one, and at once.
    calls: tuple[int, int] = (4_000, 8_000)
    #: Of each of the three latencies.
    seconds: float = 1.5

    def peers_of(self, part: str) -> list[Peer]:
        """Return the peers of one part."""
        if part == "batches":
            return [OURS]
        return [PEERS[name] for name in self.peers or COMPARED.get(part, tuple(PEERS))]

    def all_peers(self) -> list[Peer]:
        """Return the peers of all parts."""
        wanted = {peer.name for part in self.parts for peer in self.peers_of(part)}
        return [peer for peer in PEERS.values() if peer.name in wanted]

    def rounds_of(self, part: str) -> int:
        """Return how often a part is measured: what takes minutes is measured once or twice."""
        return min(self.rounds, {"processes": 2, "rows": 1, "queued": 1}.get(part, self.rounds))


def estimate(plan: Plan) -> float:
    """Return about how many seconds it takes on a machine that does nothing else."""
    return sum(
        plan.rounds_of(part) * len(plan.peers_of(part)) * SECONDS[part] + BESIDES.get(part, 0) for part in plan.parts
    )


def measure(plan: Plan, servers: Servers, folder: Path) -> dict[str, Results]:
    """Measure all of it."""
    results = {part: Results(part) for part in plan.parts}
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s: {what}", flush=True)

    singles = [part for part in SINGLE if part in plan.parts]
    for number in range(plan.rounds if singles else 0):
        for peer in plan.peers_of(singles[0]):
            _single(plan, peer, servers, folder, results)
            tell(f"round {number + 1}, {peer.name}")
    for part in plan.parts:
        if part in SINGLE:
            continue
        peers = plan.peers_of(part)
        for number in range(plan.rounds_of(part)):
            if part == "processes":
                sizes.processes(peers, servers, folder, plan.jobs, results[part])
            elif part == "batches":
                batches(servers, folder, results[part], [size for size in SIZES if size <= plan.most])
            elif part == "rows":
                chosen = [size for size in sizes.ROWS if size <= plan.most]
                sizes.rows(peers, servers, folder, plan.jobs, results[part], chosen)
            else:
                chosen = [size for size in sizes.QUEUED if size <= plan.most]
                sizes.queued(peers, servers, folder, results[part], chosen)
            tell(f"round {number + 1}, {part}")
    return results


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
