"""The command `demo`: the main job end to end, on temporary servers, with real patterns."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pattern_storage.config.settings import Settings
from pattern_storage.extract import harvest, standard_library
from pattern_storage.storage import ModelResult
from pattern_storage.storage.pattern_columns import PatternColumns
from pattern_storage.tasks.cli.exits import Exit, wants_json
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, out, print_json
from pattern_storage.tasks.cli.services import running_services, running_stack
from pattern_storage.tasks.cli.tables import print_table
from pattern_storage.tasks.client import Job, PatternStorageClient
from pattern_storage.vocabulary import OperationName

BATCH_SIZE = 500
TIMEOUT = 60.0  # seconds to wait for any one job


class Steps:
    """The steps of the demo with their outcomes, and whether all were as expected."""

    def __init__(self, client: PatternStorageClient) -> None:
        self._client = client
        self.done: list[dict[str, Any]] = []
        self.as_expected = True

    def run(
        self, step: str, submit: Callable[[], Sequence[Job]], *, fails: str | None = None, count: int | None = None
    ) -> ModelResult:
        """Submit jobs, read their results back from Redis by correlation id, note the step, return the last result.

        Args:
            step: its name in the table.
            submit: sends one or more jobs.
            fails: the error_type with which the last of them should fail; None if all should succeed.
            count: how many patterns a query should find; None if that is not known.
        """
        started = time.perf_counter()
        jobs = submit()
        results = [self._client.get(job.correlation_id).result(timeout=TIMEOUT) for job in jobs]
        took = (time.perf_counter() - started) * 1000
        last = results[-1]
        right = last.metadata.get("error_type") == fails if fails else all(result.success for result in results)
        if count is not None:
            right = right and last.data["count"] == count
        self.as_expected &= right
        worked = sum(result.metadata["duration_ms"] or 0 for result in results)
        self.done.append({
            "ok": right, "step": step, "outcome": str(last.error or _summary(last, len(jobs))),
            "correlation_id": str(jobs[-1].correlation_id), "worker_ms": worked, "total_ms": took,
        })  # fmt: skip
        return last

    def print(self) -> None:
        """Print the steps as a table."""
        rows = [
            (
                Text("ok", "green") if step["ok"] else Text("WRONG", "bold red"),
                step["step"],
                Text.assemble(step["outcome"], (f"\njob {step['correlation_id']}", "dim")),
                f"{step['worker_ms']:,.1f}",
                f"{step['total_ms']:,.1f}",
            )
            for step in self.done
        ]
        print_table(("", "step", "outcome, correlation id of the job", "worker", "total"), rows, fit=True)


def demo(
    patterns: Annotated[int, typer.Option(min=10, help="Patterns to store.")] = 5_000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    as_json: Json = False,
) -> None:
    """Store, query, change and remove real patterns through real jobs on temporary servers, then stop everything."""
    # As Ctrl-C does, SIGTERM unwinds the block, which stops the servers and removes their folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.perf_counter()
    with (
        _system(workers) as settings,
        PatternStorageClient(
            database_url=settings.database_url,
            redis_url=settings.redis_url,
            broker_url=settings.broker,
            result_backend_url=settings.result_backend,
        ) as client,
    ):
        say = err.print if as_json else out.print
        say(f"PostgreSQL, Valkey and a worker are up after {time.perf_counter() - started:.1f} s")
        steps = Steps(client)
        found = list(_harvested(patterns))
        steps.run(f"store {len(found):,} patterns", lambda: _store(client, found))
        _single_operations(client, steps, found)
        if not as_json:
            out.print("\nEach result was read back from Redis by its correlation id (times in ms):")
            steps.print()
    say(f"everything is stopped again; {time.perf_counter() - started:.1f} s in all")
    if as_json:
        print_json({"ok": steps.as_expected, "steps": steps.done})
    if not steps.as_expected:
        err.print("At least one step did not end as it should: see WRONG above.", style="bold red")
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        out.print(f"Next: '{_program()} up' runs a system that stays.")
        out.print("README.md shows how to use it from your code.")


def _program() -> str:
    """Return the name of this program for a shell: its path, where it is not on PATH."""
    return "pattern-storage" if shutil.which("pattern-storage") else os.path.relpath(sys.argv[0])


@contextmanager
def _system(workers: int) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="pattern-storage-demo-") as folder:
        # PostgreSQL does not run as root; the account that it runs under has to enter the folder.
        Path(folder).chmod(0o711)
        data_dir = Path(folder) / "data"
        with running_stack(data_dir) as (_, settings):
            arguments = ["--concurrency", str(workers), "--loglevel", "WARNING"]
            with running_services(settings, data_dir / "celery", worker=arguments):
                yield settings


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err if wants_json() else out)


def _harvested(count: int) -> Iterator[Any]:
    with _progress_bar() as progress:
        source = islice(harvest(standard_library()), count)
        yield from progress.track(source, total=count, description="harvest the standard library")


def _store(client: PatternStorageClient, patterns: list[Any]) -> Sequence[Job]:
    with _progress_bar() as progress:
        bar = progress.add_task("store them in PostgreSQL    ", total=len(patterns))
        batches = [patterns[start : start + BATCH_SIZE] for start in range(0, len(patterns), BATCH_SIZE)]
        jobs = [client.batch_insert(batch) for batch in batches]
        for job, batch in zip(jobs, batches, strict=True):
            if job.result(timeout=TIMEOUT).success:
                progress.advance(bar, len(batch))
    return jobs


def _single_operations(client: PatternStorageClient, steps: Steps, stored: list[Any]) -> None:
    """Insert, query, update and delete one pattern, and try two things that must be refused."""
    mine: PatternColumns = {
        "pattern_name": "demo.retry_with_backoff",
        "pattern_type": "function",
        "language": "python",
        "template_code": "def retry_with_backoff(call, attempts=5):\n    ...\n",
        "tags": ["demo", "retry"],
        "confidence_score": 0.8,
    }
    inserted = steps.run("insert one pattern", lambda: [client.insert(mine)])
    steps.run("insert it again", lambda: [client.insert(mine)], fails="unique_violation")
    batch: list[PatternColumns] = [{**mine, "pattern_name": f"demo.row_{index}"} for index in range(9)]
    batch.insert(7, stored[0])  # a pattern that is in the table already
    steps.run("batch of 10, one row a duplicate", lambda: [client.batch_insert(batch)], fails="unique_violation")
    steps.run("query: did any of its rows stay?", lambda: [client.query(name_contains="demo.row_")], count=0)
    steps.run("query by tags", lambda: [client.query(tags_all=["demo", "retry"])], count=1)
    steps.run("query by context", lambda: [client.query(context_contains={"complexity": 1}, limit=20)])
    if inserted.success:
        pattern_id = inserted.data["pattern_id"]
        steps.run(
            "update two columns", lambda: [client.update(pattern_id, {"confidence_score": 0.95, "usage_count": 1})]
        )
        steps.run("delete it", lambda: [client.delete(pattern_id)])
        steps.run("delete it again", lambda: [client.delete(pattern_id)], fails="validation_error")
    steps.run("query: is it gone?", lambda: [client.query(pattern_name=mine["pattern_name"])], count=0)


def _summary(result: ModelResult, jobs: int) -> str:
    data = result.data
    match result.metadata["operation"]:
        case OperationName.BATCH_INSERT:
            return f"{jobs} atomic {'batch' if jobs == 1 else 'batches'} committed"
        case OperationName.QUERY:
            names = ", ".join(pattern["pattern_name"] for pattern in data["patterns"][:2])
            return f"{data['count']} found" + (f": {names}" + (", …" if data["count"] > 2 else "") if names else "")
        case OperationName.UPDATE:
            return f"changed {', '.join(data['fields_updated'])}"
        case OperationName.DELETE:
            return f"removed {data['pattern_name']}"
    return f"stored {data['pattern_name']}"
