"""Files of metrics that processes write while they are read."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from pattern_storage.tasks.observability.metrics.endpoint import FilesCollector


def test_a_file_that_is_just_being_created_has_nothing_to_say(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    FilesCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    file = MmapedDict(str(tmp_path / "counter_0.db"))  # type: ignore[no-untyped-call]
    file.write_value(mmap_key("jobs", "jobs_total", [], [], "Jobs."), 3.0, 0.0)  # type: ignore[no-untyped-call]
    (tmp_path / "counter_1.db").touch()
    (tmp_path / "gauge_liveall_2.db").touch()
    assert b"jobs_total 3.0" in generate_latest(registry)
    file.close()  # type: ignore[no-untyped-call]
