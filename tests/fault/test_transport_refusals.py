"""A Redis that is up and refuses for a moment: the worker waits, says so once, and goes on."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from pattern_storage.tasks.client import BrokerUnavailable
from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_loading import LoadingValkey, loading
from tests.fix_process import wait_until

Refusal = Callable[[Any], Any]


@contextmanager
def no_replicas(store: Any) -> Iterator[None]:
    store.config_set("min-replicas-to-write", "1")
    try:
        yield
    finally:
        store.config_set("min-replicas-to-write", "0")


@contextmanager
def no_disk(store: Any) -> Iterator[None]:
    """A folder stands where the dump should be."""
    store.config_set("save", "3600 1000000")
    dump = Path(store.config_get("dir")["dir"]) / store.config_get("dbfilename")["dbfilename"]
    dump.unlink(missing_ok=True)
    dump.mkdir()
    store.bgsave()
    wait_until(lambda: store.info("persistence")["rdb_last_bgsave_status"] == "err", "saving fails")
    try:
        yield
    finally:
        shutil.rmtree(dump)
        store.bgsave()
    wait_until(lambda: store.info("persistence")["rdb_last_bgsave_status"] == "ok", "saving works")


@contextmanager
def busy(store: Any) -> Iterator[None]:
    """A script that runs for long."""
    store.config_set("busy-reply-threshold", "50")
    url = store.connection_pool.connection_kwargs

    def run() -> None:
        with (
            suppress(redis.RedisError),
            redis.Redis(host=url["host"], port=url["port"], password=url["password"]) as other,
        ):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()

    def refused() -> bool:
        try:
            store.get("x")
        except redis.ResponseError:
            return True
        return False

    wait_until(refused, "it is busy")
    try:
        yield
    finally:
        store.script_kill()
        thread.join()


@contextmanager
def full(store: Any) -> Iterator[None]:
    store.config_set("maxmemory", "1")
    try:
        yield
    finally:
        store.config_set("maxmemory", "0")


@contextmanager
def replica(store: Any) -> Iterator[None]:
    store.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        store.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def too_many_clients(store: Any) -> Iterator[None]:
    store.config_set("maxclients", "1")
    # Whoever connects now is refused; those who are connected have to.
    store.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        store.config_set("maxclients", "10000")


@contextmanager
def refusing(refusal: Refusal, server: LoadingValkey) -> Iterator[None]:
    """Have the server refuse in this way for as long as the block lasts."""
    with closing(redis.Redis.from_url(server.url)) as store:
        store.ping()
        with refusal(server if refusal is loading else store):
            yield


@pytest.fixture
def load(database_url: str, loading_valkey: LoadingValkey) -> Iterator[Load]:
    with closing(Load(database_url, loading_valkey.url, connect_timeout=1.0)) as opened:
        yield opened


ALL_REFUSALS = [no_replicas, no_disk, busy, full, replica, too_many_clients, loading]
REFUSALS = pytest.mark.parametrize("refusal", ALL_REFUSALS)


def check_log(said: str) -> None:
    assert said.count("goes on trying") <= 2, "the claims, and the blocking pops"
    assert "Unrecoverable" not in said
    assert "Traceback" not in said


@REFUSALS
def test_a_worker_waits(launch: Launch, load: Load, loading_valkey: LoadingValkey, refusal: Refusal) -> None:
    worker = launch(load.database_url, load.redis_url, env=SOON | SAFE)
    load.submit(load.inserts(5))
    load.settle()
    before, pid = len(worker.logs()), worker.pid
    with refusing(refusal, loading_valkey):
        with pytest.raises(BrokerUnavailable):
            load.submit(load.inserts(1))
        wait_until(lambda: "efuses for now" in worker.logs()[before:], "it says so")
    load.submit(load.inserts(20))
    load.settle()
    assert worker.pid == pid
    check_log(worker.logs()[before:])
    assert worker.stop() == 0


@REFUSALS
def test_a_worker_that_starts_waits(
    launch: Launch, load: Load, loading_valkey: LoadingValkey, refusal: Refusal, tmp_path: Path
) -> None:
    load.submit(load.inserts(5))
    log = tmp_path / "worker-0.log"
    with ThreadPoolExecutor() as beside:
        with refusing(refusal, loading_valkey):
            starting = beside.submit(launch, load.database_url, load.redis_url, env=SOON | SAFE)
            wait_until(lambda: log.exists() and "efuses for now" in log.read_text(), "it says so")
        worker = starting.result()
    load.settle()
    check_log(worker.logs())
    assert worker.stop() == 0
