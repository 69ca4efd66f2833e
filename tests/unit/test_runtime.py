"""One event loop thread and one pool a process, opened after the fork and closed at the end."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.tasks.worker import runtime
from tests.fix_celery import BLOCKED, IN_TRANSACTION, locked_patterns, worker_connections
from tests.fix_process import DEADLINE, run_python, wait_until
from tests.fix_storage import contract, make_pattern


@pytest.fixture
def settings(database_url: str) -> Settings:
    return load_settings(database_url=database_url, redis_url="redis://127.0.0.1:1", pool_min_size=2)


@pytest.fixture
def opened(settings: Settings) -> Iterator[runtime.Runtime]:
    one = runtime.Runtime(settings)
    yield one
    one.close()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    """Let `pattern_storage.tasks.worker.runtime.runtime()` open on this test's database."""
    monkeypatch.setattr(runtime, "environment_settings", lambda: settings)
    yield
    runtime.close()


#: Threads of runtimes that other tests of this process have left open.
_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def earlier() -> None:
    _earlier.clear()
    _earlier.update(loop_threads())


def loop_threads() -> list[threading.Thread]:
    threads = (thread for thread in threading.enumerate() if thread.name == "storage-runtime")
    return [thread for thread in threads if thread not in _earlier]


class TestRun:
    """A coroutine from a plain function."""

    def test_returns_what_it_returns(self, opened: runtime.Runtime) -> None:
        result = opened.run(opened.node.execute_effect(contract("insert", data=make_pattern())))
        assert result.success

    def test_raises_what_it_raises(self, opened: runtime.Runtime) -> None:
        async def fail() -> None:
            raise LookupError("this one")

        with pytest.raises(LookupError, match="this one"):
            opened.run(fail())

    def test_waiting_for_itself_is_refused(self, opened: runtime.Runtime) -> None:
        async def inner() -> None:
            """Never runs."""

        async def outer() -> None:
            opened.run(inner())

        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            opened.run(outer())

    def test_interruption_waits_for_the_end(self, opened: runtime.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        """A rollback takes its time; what comes after an interruption has to find it done."""
        begun, ended = threading.Event(), threading.Event()

        async def rolls_back() -> None:
            begun.set()
            try:
                await asyncio.sleep(DEADLINE)
            finally:
                await asyncio.sleep(0.3)
                ended.set()

        def interrupt() -> None:
            assert begun.wait(DEADLINE)
            raise KeyboardInterrupt

        monkeypatch.setattr(runtime, "SLOW", 0.01)
        with pytest.raises(KeyboardInterrupt):
            opened.run(rolls_back(), on_slow=interrupt)
        assert ended.is_set()

    def test_interruption_cancels_and_rolls_back(self, opened: runtime.Runtime, database_url: str) -> None:
        """As Celery's soft time limit does: a signal whose handler raises in the thread that waits."""

        class Interrupted(Exception):
            pass

        def interrupt(*_: object) -> None:
            raise Interrupted

        def when_blocked() -> None:
            wait_until(lambda: worker_connections(database_url, BLOCKED), "the insert waits for the table")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, interrupt)
        sender = threading.Thread(target=when_blocked)
        try:
            with locked_patterns(database_url):
                sender.start()
                with pytest.raises(Interrupted):
                    opened.run(opened.node.execute_effect(contract("insert", data=make_pattern())))
                # Still locked: a transaction that was left open would be waiting here.
                assert worker_connections(database_url, IN_TRANSACTION) == []
        finally:
            sender.join()
            signal.signal(signal.SIGUSR1, before)
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (0,)
        assert opened.run(opened.node.execute_effect(contract("insert", data=make_pattern()))).success

    def test_other_process(self, database_url: str) -> None:
        program = """
import asyncio, os
from pattern_storage.config.settings import load_settings
from pattern_storage.tasks.worker.runtime import Runtime, WrongProcess

opened = Runtime(load_settings())
child = os.fork()
if child == 0:
    try:
        opened.run(asyncio.sleep(0))
    except WrongProcess as error:
        print(error, flush=True)
    opened.close()
    os._exit(0)
os.waitpid(child, 0)
print(os.getpid(), child, opened.run(asyncio.sleep(0, "alive")))
opened.close()
"""
        ended = run_python("-W", "error", "-c", program, DATABASE_URL=database_url, REDIS_URL="redis://127.0.0.1:1")
        assert (ended.returncode, ended.stderr) == (0, "")
        said, last = ended.stdout.splitlines()
        parent, child, alive = last.split()
        assert said == (
            f"the storage runtime was opened in process {parent} and used in process {child},"
            " which was forked from it; open it after the fork"
        )
        assert alive == "alive"


class TestClose:
    """Nothing is left behind."""

    def test_connections_and_thread(self, settings: Settings, database_url: str) -> None:
        opened = runtime.Runtime(settings)
        wait_until(lambda: len(worker_connections(database_url)) == 2, "two connections")
        assert len(loop_threads()) == 1
        opened.close()
        wait_until(lambda: worker_connections(database_url) == [], "no connection")
        assert loop_threads() == []
        opened.close()

    @pytest.mark.parametrize("steps", range(4))
    def test_while_its_pool_still_connects(self, settings: Settings, database_url: str, steps: int) -> None:
        """psycopg-pool before 3.2.2 keeps a connection that is set up while the pool is closed: see pyproject.toml."""
        opened = runtime.Runtime(settings)
        for _ in range(steps):
            opened.run(asyncio.sleep(0))
        opened.close()
        assert opened.pool.get_stats()["pool_available"] == 0
        wait_until(lambda: worker_connections(database_url) == [], "no connection")

    def test_used_again_it_opens_again(self, shared: None) -> None:
        first = runtime.runtime()
        runtime.close()
        runtime.close()
        second = runtime.runtime()
        assert second is not first
        assert runtime.run(asyncio.sleep(0, "works")) == "works"


class TestShared:
    """One for all threads of a process."""

    def test_threads_that_race_open_one(self, shared: None, database_url: str) -> None:
        start = threading.Barrier(16)

        def use(_: int) -> NodePatternStorageEffect:
            start.wait(DEADLINE)
            return runtime.node()

        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(use, range(16)))) == 1
        assert len(loop_threads()) == 1
        wait_until(lambda: len(worker_connections(database_url)) == 2, "two connections")

    def test_opened_for_a_prefork_child(self, shared: None) -> None:
        assert loop_threads() == []
        runtime._open()
        assert len(loop_threads()) == 1
        assert runtime.runtime().process_id == os.getpid()

    def test_worker_that_starts_before_postgresql(self) -> None:
        """Its jobs fail with a result; it does not."""
        nowhere = load_settings(database_url="postgresql://127.0.0.1:1/db", redis_url="redis://x", pool_timeout=0.1)
        opened = runtime.Runtime(nowhere)
        try:
            result = opened.run(opened.node.execute_effect(contract("insert", data=make_pattern())))
        finally:
            opened.close()
        assert result.metadata["error_type"] == "pool_timeout"
