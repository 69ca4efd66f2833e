"""A Redis that is up and refuses for a moment: the worker waits, says so once, and goes on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pattern_storage.tasks.client import BrokerUnavailable
from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_loading import LoadingValkey
from tests.fix_process import wait_until
from tests.fix_refusals import ALL_REFUSALS, Refusal, refusing


@pytest.fixture
def load(database_url: str, loading_valkey: LoadingValkey) -> Iterator[Load]:
    with closing(Load(database_url, loading_valkey.url, connect_timeout=1.0)) as opened:
        yield opened


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
