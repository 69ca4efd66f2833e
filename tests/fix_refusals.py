"""Ways in which a Redis that is up refuses for a moment, each a block in which it does."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

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


ALL_REFUSALS = [no_replicas, no_disk, busy, full, replica, too_many_clients, loading]
