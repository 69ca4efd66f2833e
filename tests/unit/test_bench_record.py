"""What the comparison with other queues makes of its figures: medians, ratios, what fell, and the document."""

import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

import bench.peers.__main__ as main
from bench.peers import environment, report
from bench.peers.plan import finalists
from bench.peers.recorded import Recorded, Rows, best_peers, ratios
from bench.peers.registry import OURS, PEERS
from bench.peers.results import PARTS, Results, Value, percentile


def rows_of(**jobs_per_second: float) -> Rows:
    names = {name.replace("_", "-"): value for name, value in jobs_per_second.items()}
    return {
        name: {"jobs_per_second": Value(value, 0.1), "cpu_ms": Value(1000 / value, 0.0)}
        for name, value in names.items()
    }


def test_medians_and_percentiles() -> None:
    assert [percentile([3.0, 1.0, 2.0], percent) for percent in (1, 50, 67, 100)] == [1.0, 2.0, 3.0, 3.0]
    results = Results("latency")
    for samples in ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [5.0, 5.0, 5.0]):
        results.add("saq", {"low_ms": samples, "same_ms": samples, "half_ms": samples, "half_rate": 7.0, "unknown": 1})
    values = results.values()["saq"]
    assert values["low_ms:50"] == Value(2.0, 1.5)  # over all samples; the farthest round is 5.0
    assert values["low_ms:99"].median == 5.0
    assert values["half_rate"] == Value(7.0, 0.0)
    assert "unknown" not in values


def test_ratios_are_against_celery_and_the_best_peer() -> None:
    parts = {"jobs": rows_of(pattern_storage=900, pattern_storage_threads=9_000, celery=300, saq=450, huey=600)}
    found = ratios(parts)
    assert found["jobs a second, against celery"] == 3.0
    assert found["jobs a second, against the best peer"] == 1.5
    assert found["worker CPU a job, against celery"] == pytest.approx(3.0)
    assert len(found) == 3  # nothing is said of what was not measured
    assert ratios(parts, ["celery", "saq"])["jobs a second, against the best peer"] == 2.0
    parts["latency"] = {name: {"low_ms:50": Value(value, 0.0)} for name, value in ((OURS.name, 1.0), ("saq", 2.0))}
    assert best_peers(Recorded(parts=parts)) == ["huey", "saq"]
    assert best_peers(Recorded()) == []


def test_ours_and_the_best_of_each_part_are_measured_again() -> None:
    results = {part: Results(part) for part in ("jobs", "latency")}
    for name, jobs, low in ((OURS.name, 9, 1.0), ("celery", 1, 4.0), ("huey", 2, 2.0), ("saq", 3, 3.0)):
        results["jobs"].add(name, {"jobs_per_second": jobs})
        results["latency"].add(name, {"low_ms": [low]})
    assert [peer.name for peer in finalists(results)] == [OURS.name, "saq", "huey"]


def test_a_ratio_falls_where_a_quarter_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.fallen({"a": 0.76, "b": 0.74, "c": 3.0}, {"a": 1.0, "b": 1.0, "c": 1.0}) == ["b"]
    assert "b: 0.74 times better, recorded 1.00" in capsys.readouterr().out


@pytest.mark.parametrize(("jobs_per_second", "code"), [(700, 0), (600, 1)])
def test_bench_quick_exits_with_1_where_a_ratio_fell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs_per_second: float, code: int
) -> None:
    """With figures in place of a measurement."""
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    recorded = Recorded(parts={"jobs": rows_of(pattern_storage=900, celery=300, saq=450)})
    monkeypatch.setattr(Recorded, "load", lambda: recorded)
    monkeypatch.setattr(environment, "versions", lambda peer: {})
    monkeypatch.setattr(main, "running", lambda folder: nullcontext(SimpleNamespace(settings=dict)))
    results = Results("jobs")
    for name, jobs in ((OURS.name, jobs_per_second), ("celery", 300), ("saq", 450)):
        results.add(name, {"jobs_per_second": jobs, "cpu_ms": 1000 / jobs})
    monkeypatch.setattr(main, "measure", lambda *_: [("jobs", results.values())])
    assert main.main() == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("fell by more than a quarter: jobs a second, against celery" if code else "nothing fell")


def test_the_document_takes_what_is_recorded(tmp_path: Path) -> None:
    """The real document has one place for each part; writing changes nothing outside of them, and can be repeated."""
    document, readme = tmp_path / "benchmarks.md", tmp_path / "README.md"
    shutil.copy(report.FILE, document)
    shutil.copy(report.README, readme)
    recorded = Recorded(
        parts={part: {OURS.name: {column.metric: Value(12_345.678, 0.25) for column in PARTS[part]}} for part in PARTS},
        conditions={part: f"measured {part}" for part in PARTS},
        versions={name: {"celery": "5.7.0"} for name in PEERS},
        servers={"postgresql server_version": "18.6"},
    )
    for part in report.IN_README:
        readme.write_text(readme.read_text().replace(report.PICTURES[part][0], "old.svg"))
    report.write(recorded, document, readme)
    assert readme.read_text() == report.README.read_text()
    once = document.read_text()
    assert "\n[![Jobs a second of each queue](docs/images/bench-jobs.svg)](docs/benchmarks.md)\n" in readme.read_text()
    for part in PARTS:
        assert once.count(f"measured {part}\n<!-- end -->") == 1
    assert "| **pattern-storage** | 12,346 ±25% |" in once
    assert once.count("| celery 5.7.0 |") == len(PEERS)
    report.write(recorded, document, readme)
    assert document.read_text() == once
    document.write_text(once.replace("<!-- bench: jobs -->", ""))
    with pytest.raises(ValueError, match=r"benchmarks\.md has no place '<!-- bench: jobs -->'"):
        report.write(recorded, document, readme)


def test_pictures_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    plots = pytest.importorskip("bench.peers.plots", reason="make bench installs matplotlib")
    rows = rows_of(pattern_storage=900, celery=300)
    sizes = {f"{name}, {size}": values for name, values in rows.items() for size in ("1,000", "10,000")}
    recorded = Recorded(parts={"jobs": rows, "rows": sizes})
    files = plots.write(recorded, tmp_path)
    assert [file.name for file in files] == ["bench-jobs.svg", "bench-rows.svg"]
    once = [file.read_text() for file in files]
    assert all(text in once[0] for text in ("pattern-storage", "celery", "900", "300"))
    assert "10,000" in once[1]
    plots.write(recorded, tmp_path)
    assert [file.read_text() for file in files] == once


def test_what_is_recorded_can_be_read() -> None:
    recorded = Recorded.load()
    assert recorded.parts.keys() <= PARTS.keys()
    for part, rows in recorded.parts.items():
        assert all(list(values) == [column.metric for column in PARTS[part]] for values in rows.values())
