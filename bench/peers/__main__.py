"""pattern-storage beside other queues: `python -m bench.peers --part jobs --peers pattern-storage,celery,saq`.

Each round measures every peer once, so that whatever else the machine does falls on all; figures are the median of the
rounds, with the distance of the farthest round.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import psutil

from bench.peers import environment
from bench.peers.registry import PEERS, Peer
from bench.peers.results import COLUMNS, Results
from bench.peers.servers import Servers, running
from bench.peers.session import enqueue, session

#: Seconds that one peer takes in one round, about: for the estimate.
SECONDS = {"jobs": 8.0, "enqueue": 4.0, "latency": 6.0}


def names(text: str, known: list[str]) -> list[str]:
    """Return the names in a list with commas; raise argparse's error for one that is not known."""
    chosen = text.split(",")
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {name!r}: choose from {', '.join(known)}")
    return chosen


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--part", type=lambda text: names(text, list(COLUMNS)), default=list(COLUMNS))
    parser.add_argument("--peers", type=lambda text: names(text, list(PEERS)), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=3_000, help="in the queue before the workers go (default 3000)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")
    return parser.parse_args()


def measure(peer: Peer, servers: Servers, folder: Path, chosen: argparse.Namespace, results: Results) -> None:
    """Enter one round of one peer."""
    if {"jobs", "latency"} & set(chosen.part):
        with session(peer, servers, chosen.processes, folder) as warm:
            drained = warm.drain(chosen.jobs)
            results.add(peer.name, drained)
            if "latency" in chosen.part:
                results.add(peer.name, warm.latency(drained["jobs_per_second"], seconds=2.0))
    if "enqueue" in chosen.part:
        results.add(peer.name, enqueue(peer, servers, folder, one_by_one=1_000, at_once=3_000))


def main() -> None:
    """Measure what is asked for, and print it."""
    chosen = arguments()
    peers = [PEERS[name] for name in chosen.peers]
    for peer in peers:
        found = ", ".join(f"{name} {version}" for name, version in sorted(environment.versions(peer).items()))
        print(f"{peer.name}: {peer.settings}\n    {found}\n    python -m {peer.worker}", flush=True)
    estimate = sum(SECONDS[part] for part in chosen.part) * len(peers) * chosen.rounds
    print(f"about {estimate / 60:.0f} minutes, on {psutil.cpu_count()} processors, Python {platform.python_version()}")
    results = Results()
    with tempfile.TemporaryDirectory(prefix="pattern-storage-bench-") as name, running(Path(name)) as servers:
        print(", ".join(f"{setting} {value}" for setting, value in servers.settings().items()))
        for number in range(chosen.rounds):
            for peer in peers:
                begun = time.monotonic()
                measure(peer, servers, Path(name), chosen, results)
                print(f"round {number + 1}: {peer.name} in {time.monotonic() - begun:.1f} s", flush=True)
    for part in chosen.part:
        print(f"\n{part}\n{results.table(part)}")


if __name__ == "__main__":
    main()
