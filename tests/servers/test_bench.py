"""The comparison with other queues measures what it says, with ours and Celery, and few jobs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.peers.plan import Plan, measure
from bench.peers.recorded import Recorded, ratios
from bench.peers.registry import OURS, PEERS
from bench.peers.results import Value
from bench.peers.servers import Servers, running

PEER = replace(PEERS["celery"], requirements=())


@pytest.fixture
def servers(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Servers of the comparison's own, and a stock Celery that runs in our environment: nothing is installed."""
    monkeypatch.setitem(PEERS, "celery", PEER)
    # A flow that any machine can do beside the rest.
    monkeypatch.setattr("bench.peers.session.FLOW", 5)
    folder = server_directory / "bench"
    folder.mkdir()
    with running(folder) as started:
        yield started


def test_ours_and_celery(servers: Servers, tmp_path: Path) -> None:
    parts, peers = ["jobs", "enqueue", "latency"], [OURS.name, PEER.name]
    plan = Plan(parts, peers, rounds=1, jobs=60, calls=(10, 30), seconds=0.2)
    measured = dict(measure(plan, servers, tmp_path))
    assert all(list(rows) == peers for rows in measured.values())

    # Celery's program does what the text says: three statements, one transaction, of each job and of nothing else.
    celery, ours = measured["jobs"][PEER.name], measured["jobs"][OURS.name]
    assert celery["statements"].median == 3.0
    assert celery["transactions"].median == pytest.approx(1.0, abs=0.1)  # PostgreSQL's own housekeeping may take an id
    assert 0 < ours["transactions"].median <= 1.1
    for values in (celery, ours):
        assert values["redis_commands"].median >= values["redis_round_trips"].median > 0
        assert values["cpu_ms"].median > 0
    assert all(value.median > 0 for rows in measured.values() for row in rows.values() for value in row.values())

    recorded = Recorded(parts=measured, conditions=dict.fromkeys(measured, "a test"))
    recorded.save(tmp_path / "recorded.json")
    again = Recorded.load(tmp_path / "recorded.json")
    assert again == recorded
    against = ours["jobs_per_second"].median / celery["jobs_per_second"].median
    assert ratios(again.parts)["jobs a second, against celery"] == pytest.approx(against)
    assert isinstance(again.parts["latency"][OURS.name]["low_ms:99"], Value)
