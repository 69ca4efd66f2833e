"""pattern-storage beside other queues: `python -m bench.peers --part jobs --peers pattern-storage,celery,saq`.

Each round measures every peer once, so that whatever else the machine does falls on all; figures are the median of the
rounds, with the distance of the farthest round.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

from bench.peers import environment, report
from bench.peers.plan import SINGLE, Plan, estimate, measure
from bench.peers.recorded import KEPT, Recorded, best_peers, ratios
from bench.peers.registry import OURS, PEERS
from bench.peers.results import PARTS
from bench.peers.servers import running


def names(text: str, known: list[str]) -> list[str]:
    """Return the names in a list with commas; raise argparse's error for one that is not known."""
    chosen = text.split(",")
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {name!r}: choose from {', '.join(known)}")
    return chosen


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = f"any of {', '.join(PARTS)}; all of them by default"
    parser.add_argument("--part", type=lambda text: names(text, list(PARTS)), help=known)
    known = f"any of {', '.join(PEERS)}; all of them by default"
    parser.add_argument("--peers", type=lambda text: names(text, list(PEERS)), help=known)
    parser.add_argument("--rounds", type=int, default=3)
    known = "rounds after these of pattern-storage and the best peers (default 0)"
    parser.add_argument("--finals", type=int, default=0, help=known)
    parser.add_argument("--jobs", type=int, default=10_000, help="in the queue before the workers go (default 10000)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--most", type=int, default=1_000_000, help="of growing numbers, the largest (default 1000000)")
    parser.add_argument("--write", action="store_true", help="keep the figures in bench/recorded.json and the docs")
    parser.add_argument("--quick", action="store_true", help="exit 1 if a ratio to others fell since recorded")
    return parser.parse_args()


def plan_of(chosen: argparse.Namespace, recorded: Recorded) -> Plan:
    """Return what is to be measured."""
    if not chosen.quick:
        return Plan(
            chosen.part or list(PARTS), chosen.peers, chosen.rounds, chosen.finals, chosen.jobs, chosen.processes,
            chosen.most,
        )  # fmt: skip
    best = best_peers(recorded)
    if not best:
        sys.exit("there are no figures to compare with: make bench")
    peers = dict.fromkeys([OURS.name, "celery", *best])
    return Plan(list(SINGLE), list(peers), rounds=2, jobs=4_000, calls=(2_000, 4_000), seconds=1.0, quick=True)


def fallen(now: dict[str, float], before: dict[str, float]) -> list[str]:
    """Print both, and return the names of those that fell by more than a quarter."""
    for name, value in now.items():
        print(f"{name}: {value:.2f} times better, recorded {before.get(name, math.nan):.2f}")
    return [name for name, value in now.items() if value < KEPT * before.get(name, 0.0)]


def main() -> int:
    """Measure what is asked for, and print it; keep or compare it."""
    chosen, recorded = arguments(), Recorded.load()
    plan = plan_of(chosen, recorded)
    for peer in plan.all_peers():
        found = environment.versions(peer)
        recorded.versions[peer.name] = found
        shown = ", ".join(f"{name} {version}" for name, version in sorted(found.items()))
        print(f"{peer.name}: {peer.settings}\n    {shown}\n    python -m {peer.worker}")
    machine = environment.machine()
    print(f"about {estimate(plan) / 60:.0f} minutes: {machine}", flush=True)
    if chosen.write:
        from bench.peers import plots  # needs the extra `bench`, which a measurement does not
    with tempfile.TemporaryDirectory(prefix="pattern-storage-bench-") as name, running(Path(name)) as servers:
        recorded.servers = servers.settings()
        print(", ".join(f"{setting} {value}" for setting, value in recorded.servers.items()), flush=True)
        measured = {}
        for part, rows in measure(plan, servers, Path(name)):
            measured[part] = rows
            print(f"\n{part}\n{report.text_table(part, rows)}\n", flush=True)
            if chosen.write:
                recorded.parts[part], recorded.conditions[part] = rows, f"{machine}; {plan.condition(part)}."
                recorded.save()
    if chosen.quick:
        below = fallen(ratios(measured), ratios(recorded.parts, [peer.name for peer in plan.all_peers()]))
        print(f"fell by more than a quarter: {', '.join(below)}" if below else "nothing fell by more than a quarter")
        return 1 if below else 0
    if chosen.write:
        report.write(recorded)
        plots.write(recorded)
    return 0


if __name__ == "__main__":
    sys.exit(main())
