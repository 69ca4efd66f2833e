"""A task that reports the run of an import, for a worker that is started with `--include tests.import_task`."""

from tasks import metrics
from tasks.app import app


@app.task(name="tests.import")
def report(name: str, rows: dict[str, int], lag: float | None) -> None:
    metrics.imported(name, rows=rows, lag=lag)
