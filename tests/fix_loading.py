"""A Valkey that takes as long as a test likes to load its data, as one with a large file does after a restart."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.embedded.account import Account
from tests.fix_process import wait_until

#: Commands in its file, and microseconds for each: a minute, unless told to hurry. It answers after each thousand.
COMMANDS, DELAY = 600_000, 100
FILL = "for _ = 1, tonumber(ARGV[1]) do redis.call('INCR', KEYS[1]) end"


class LoadingValkey(EmbeddedValkey):
    """The embedded Valkey with its data in a file, and the server's debug option for slow loading."""

    delay = 0

    def _command(self, account: Account, port: int, password: str) -> Sequence[str | Path]:
        return [*super()._command(account, port, password), "--key-load-delay", str(self.delay)]


@contextmanager
def loading(server: LoadingValkey) -> Iterator[None]:
    """Restart it; it loads its data for as long as the block lasts."""
    with closing(redis.Redis.from_url(server.url)) as store, ThreadPoolExecutor(1) as beside:
        store.eval(FILL, 1, "test-of-loading", COMMANDS)
        server.stop()
        server.delay = DELAY
        starting = beside.submit(server.start)

        def loads() -> bool:
            try:
                return bool(store.info("persistence")["loading"])
            except redis.ConnectionError:
                assert not starting.done(), starting.exception()
                return False

        wait_until(loads, "it loads its data")
        try:
            with pytest.raises(redis.BusyLoadingError):
                store.get("test-of-loading")
            yield
        finally:
            server.delay = 0
            store.config_set("key-load-delay", 0)
            starting.result()
        store.delete("test-of-loading")


@pytest.fixture
def loading_valkey(server_directory: Path) -> Iterator[LoadingValkey]:
    """One of a test's own."""
    with LoadingValkey(server_directory / f"loading-{uuid4().hex[:8]}", durable=True) as server:
        yield server
