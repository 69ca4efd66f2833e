"""Cost of metrics: CPU time a job of one worker with metrics on and off, in turn.

`make bench-metrics`, about a minute. CPU time of the worker's processes instead of jobs a second: it hardly depends on
what else the machine does. It begins after a warm-up job of each process, so that starting does not count.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import redis

from pattern_storage import ModelContractPatternStorage, PatternStorageClient
from pattern_storage.embedded import EmbeddedStack
from pattern_storage.embedded.ports import port_for
from pattern_storage.storage import schema
from tests.fix_process import clean_environment

JOBS = 600
ROUNDS = 5


def run(stack: EmbeddedStack, folder: Path, port: int) -> float:
    """Return milliseconds of CPU time a job of one worker with two processes; port 0 measures nothing."""
    with redis.Redis.from_url(stack.redis_url) as queue:
        queue.flushdb()
    pattern = {"pattern_type": "function", "language": "python", "template_code": "def f():\n    return 1\n" * 10}
    environment = clean_environment(
        DATABASE_URL=stack.database_url, REDIS_URL=stack.redis_url, PATTERN_STORAGE_METRICS_PORT=str(port)
    )
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "pattern_storage",
        "worker",
        "--concurrency",
        "2",
        "--loglevel",
        "WARNING",
    ]
    with (folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        with PatternStorageClient(redis_url=stack.redis_url) as client:

            def insert(count: int) -> None:
                contracts = [
                    ModelContractPatternStorage(
                        operation="insert", data={"pattern_name": f"{worker.pid} {count} {number}", **pattern}
                    )
                    for number in range(count)
                ]
                for job in client.submit_many(contracts):
                    assert job.result(timeout=300).success

            insert(50)
            before = _cpu_seconds(worker.pid)
            insert(JOBS)
            return 1000 * (_cpu_seconds(worker.pid) - before) / JOBS
    finally:
        worker.terminate()
        worker.wait()


def _cpu_seconds(pid: int) -> float:
    main = psutil.Process(pid)
    times = [process.cpu_times() for process in (main, *main.children())]
    return sum(spent.user + spent.system for spent in times)


def _open(folder: str) -> Path:
    """Let PostgreSQL, which refuses root, enter the folder; return where its data goes."""
    Path(folder).chmod(0o711)
    return Path(folder) / "data"


def main() -> None:
    """Print milliseconds a job of each round, and the ratio of the medians."""
    with tempfile.TemporaryDirectory(prefix="pattern-storage-bench-") as name, EmbeddedStack(_open(name)) as stack:
        folder = Path(name)
        schema.upgrade(stack.database_url)
        port = port_for(folder / "metrics.port")
        spent: dict[str, list[float]] = {"off": [], "on": []}
        for number in range(ROUNDS):
            for state in spent:
                spent[state].append(run(stack, folder, port if state == "on" else 0))
                print(f"round {number + 1}, metrics {state}: {spent[state][-1]:.2f} ms of CPU a job", flush=True)
    off, on = (statistics.median(spent[state]) for state in spent)
    print(f"median off {off:.2f}, on {on:.2f} ms: {on / off:.3f}")


if __name__ == "__main__":
    main()
