"""Redis as other people's URLs name it: sockets, slashes, databases that are not there, clusters."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from pattern_storage import PatternStorageClient
from pattern_storage.config.urls import complete, for_redis_py
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_valkey
from tests.fix_celery import StartWorker
from tests.fix_cli import Said
from tests.fix_process import DEADLINE, clean_environment, free_port, wait_until
from tests.fix_storage import make_pattern


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[None]:
    """Run a server with these options."""
    command = [
        str(find_valkey(folder, Account(os.geteuid(), os.getegid(), switched=False))),
        "--save",
        "",
        "--dir",
        str(folder),
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def answers(url: str) -> bool:
    with suppress(redis.RedisError), redis.Redis.from_url(url) as store:
        return bool(store.ping())
    return False


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("s")
    path = folder / "r.sock"
    with valkey(folder, "--port", "0", "--unixsocket", str(path), "--requirepass", "p@ss"):
        wait_until(lambda: answers(f"unix://:p%40ss@{path}"), "it serves")
        yield path


@pytest.mark.parametrize("url", ["unix://:p%40ss@{}?db=2", "redis+socket://:p%40ss@{}?virtual_host=2"])
def test_a_job_over_a_unix_socket(launch: StartWorker, database_url: str, socket_path: Path, url: str) -> None:
    url = url.format(socket_path)
    worker = launch(database_url, url)
    with PatternStorageClient(redis_url=url, database_url=database_url) as client:
        result = client.insert(make_pattern()).result(DEADLINE)
        assert result.success
        assert client.get(result.metadata["correlation_id"]).status() == "SUCCESS"
    assert worker.stop() == 0
    with redis.Redis.from_url(f"unix://:p%40ss@{socket_path}?db=2") as store:
        assert store.keys("celery-task-meta-*")


def start(database_url: str, redis_url: str) -> Any:
    """Start a worker that should refuse at once."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "pattern_storage", "worker", "-c", "1"],
        env=clean_environment(DATABASE_URL=database_url, REDIS_URL=redis_url),
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def test_a_database_that_the_server_lacks(database_url: str, redis_url: str, cli: Callable[..., Said]) -> None:
    url = redis_url.rpartition("/")[0] + "/99"
    said = start(database_url, url)
    assert said.returncode == 2
    assert "REDIS_URL has a database that the server does not have" in said.stderr
    assert "Traceback" not in said.stderr
    found = cli("doctor", "--json", DATABASE_URL=database_url, REDIS_URL=url).json
    assert any("a database that the server does not have" in finding["found"] for finding in found)


def test_a_cluster(database_url: str, tmp_path: Path, cli: Callable[..., Said]) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with valkey(tmp_path, "--port", str(port), "--cluster-enabled", "yes"):
        wait_until(lambda: answers(url), "it serves")
        said = start(database_url, url)
        assert said.returncode == 2
        assert "REDIS_URL names a Redis Cluster, which is not supported" in said.stderr
        found = cli("doctor", "--json", DATABASE_URL=database_url, REDIS_URL=url).json
        assert any("Redis Cluster, which is not supported" in finding["found"] for finding in found)


@pytest.mark.parametrize(
    ("given", "ours", "redis_py"),
    [
        ("redis://h:1/15/", "redis://h:1/15", "redis://h:1/15"),
        ("redis://h:1/", "redis://h:1", "redis://h:1"),
        ("sentinel://a:1/3/;sentinel://b:2", "sentinel://a:1/3;sentinel://b:2", "sentinel://a:1/3;sentinel://b:2"),
        ("unix:///r.sock", "redis+socket:///r.sock?virtual_host=0", "unix:///r.sock?db=0"),
        ("unix://u:p@/r.sock?db=3", "redis+socket://u:p@/r.sock?virtual_host=3", "unix://u:p@/r.sock?db=3"),
        ("amqp://guest:guest@host//", "amqp://guest:guest@host//", "amqp://guest:guest@host//"),
    ],
)
def test_one_spelling_for_all(given: str, ours: str, redis_py: str) -> None:
    assert complete(given) == ours
    assert for_redis_py(complete(given)) == redis_py
