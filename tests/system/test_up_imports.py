"""`up` with an imports file."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.fix_cli import Said, run_script
from tests.fix_imports import IMPORTS_FILE, runs_of, write_imports_file
from tests.fix_process import wait_until
from tests.fix_storage import count_patterns
from tests.fix_up import Up


def test_up_runs_imports_in_a_worker_of_their_own(home: Path, tmp_path: Path) -> None:
    file = write_imports_file(tmp_path)
    file.write_text(IMPORTS_FILE.replace('schedule = "30 2 * * *"\ntimezone = "Europe/Berlin"', 'every = "1s"'))
    # A relative path: the services run in another folder.
    up = Up(home / "data", PATTERN_STORAGE_IMPORTS_FILE=file.name, cwd=file.parent)
    try:
        up.ready()
        worker = up.member("-Q", "imports")
        assert {"--concurrency", "1"} <= set(worker.cmdline())
        assert up.member("-Q", "storage,batch").pid != worker.pid
        runs: list[Said] = []

        def has_run() -> bool:
            """Whether it ran; one that beat has begun meanwhile lets no other begin."""
            run = ("imports", "run", "nightly", "--force", "--json")
            runs.append(run_script(*run, **up.variables, PATTERN_STORAGE_IMPORTS_FILE=str(file)))
            return "import_overlap" not in runs[-1].err

        wait_until(has_run, "no other run is open")
        done = runs[-1]
        assert done.code == 0, done.err
        assert json.loads(done.out)["metadata"]["operation"] == "import"
        scheduled: Callable[[], bool] = lambda: any(  # noqa: E731
            run["due"] and run["state"] in ("done", "unchanged") for run in runs_of(up.state.database_url)
        )
        wait_until(scheduled, "beat has made a run")
        assert count_patterns(up.state.database_url) == 3
    finally:
        up.end()
    up.leaves_nothing()
