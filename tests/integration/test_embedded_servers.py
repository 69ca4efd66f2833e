"""The embedded servers as their users see them: start, connect, stop, start again."""

import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from pattern_storage.embedded import (
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedStack,
    EmbeddedValkey,
    StackAlreadyRunning,
    read_state,
)
from pattern_storage.embedded.memory import memory_settings, usable_memory
from tests.fix_cli import make_home
from tests.fix_embedded import AS_ROOT, SCRATCH, answer, connect_redis


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    """One running stack for the tests that only look."""
    directory = make_home(SCRATCH)
    with EmbeddedStack(directory, durable=False) as running:
        yield running
    shutil.rmtree(directory)


def test_a_restart_keeps_data_and_urls(scratch: Path) -> None:
    with EmbeddedStack(scratch / "data") as first:
        urls = first.database_url, first.redis_url
        with psycopg.connect(first.database_url) as connection:
            connection.execute("CREATE TABLE kept (name text)")
            connection.execute("INSERT INTO kept VALUES ('pattern')")
        with connect_redis(first.redis_url) as broker:
            broker.rpush("queue", "job")
    assert not first.running

    with EmbeddedStack(scratch / "data") as second:
        assert (second.database_url, second.redis_url) == urls
        assert answer(second.database_url, "SELECT name FROM kept") == "pattern"
        with connect_redis(second.redis_url) as broker:
            assert broker.lrange("queue", 0, -1) == ["job"]


def test_servers_can_be_stopped_and_started_one_by_one(data_dir: Path) -> None:
    with EmbeddedStack(data_dir, durable=False) as stack:
        pid, url = stack.postgres.pid, stack.postgres.url
        stack.postgres.start()
        assert stack.postgres.pid == pid, "a second start does nothing"
        stack.postgres.stop()
        assert (stack.postgres.running, stack.postgres.pid, stack.valkey.running) == (False, None, True)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        stack.start()
        assert answer(url, "SELECT 1") == 1


def test_the_database_speaks_utf8_and_utc(stack: EmbeddedStack) -> None:
    shown = {
        name: answer(stack.database_url, f"SHOW {name}")
        for name in ("server_encoding", "timezone", "lc_messages", "max_connections", "fsync", "password_encryption")
    }
    assert shown == {
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "lc_messages": "C",
        "max_connections": "200",
        "fsync": "off",
        "password_encryption": "scram-sha-256",
    }
    assert answer(stack.database_url, "SELECT upper('grün'), current_database()") == "GRÜN"


def test_durable_is_the_default(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pattern_storage.embedded.postgres.free_disk", lambda _: 30 * 1024**3)
    with EmbeddedPostgres(data_dir / "postgres", settings={"work_mem": "5MB"}) as postgres:
        names = ("fsync", "synchronous_commit", "work_mem", "max_wal_size")
        shown = [answer(postgres.url, f"SHOW {name}") for name in names]
        bytes_of = "SELECT pg_size_bytes(current_setting(%s))"
        with psycopg.connect(postgres.url) as connection:
            for name, value in memory_settings(usable_memory()).items():
                found = connection.execute(bytes_of, [name]).fetchone()
                assert name == "work_mem" or found == connection.execute("SELECT pg_size_bytes(%s)", [value]).fetchone()
    assert shown == ["on", "on", "5MB", "3GB"]
    with EmbeddedValkey(data_dir / "vk") as valkey, connect_redis(valkey.url) as broker:
        assert broker.config_get("append*")["appendonly"] == "yes"
        assert broker.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_both_want_the_password(stack: EmbeddedStack) -> None:
    password = stack.database_url.split(":")[2].split("@")[0]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stack.database_url.replace(password, "wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(stack.database_url.replace(f":{password}", ""), passfile="/nonexistent")
    secret = stack.redis_url.split(":")[2].split("@")[0]
    assert secret != password
    with connect_redis(stack.redis_url.replace(secret, "wrong")) as broker, pytest.raises(redis.AuthenticationError):
        broker.ping()
    with connect_redis(stack.redis_url.replace(f":{secret}@", "")) as broker, pytest.raises(redis.AuthenticationError):
        broker.ping()


def test_no_argument_shows_a_password(stack: EmbeddedStack) -> None:
    secrets = [url.split(":")[2].split("@")[0] for url in (stack.database_url, stack.redis_url)]
    for pid in (stack.postgres.pid, stack.valkey.pid):
        shown = " ".join(psutil.Process(pid).cmdline()) + str(psutil.Process(pid).environ())
        assert not any(secret in shown for secret in secrets)
    for file in stack.data_dir.rglob("*"):
        if file.is_file() and not file.is_relative_to(stack.data_dir / "programs"):
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, f"{file} can be read by others"


def test_both_listen_on_the_loopback_address_alone(stack: EmbeddedStack) -> None:
    for pid in (stack.postgres.pid, stack.valkey.pid):
        sockets = psutil.Process(pid).net_connections(kind="all")
        assert {c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert not [c for c in sockets if c.family == socket.AF_UNIX and c.laddr], "no unix socket"


@pytest.mark.skipif(not AS_ROOT, reason="only root switches to another user")
def test_started_by_root_they_run_as_nobody(stack: EmbeddedStack) -> None:
    for pid in (stack.postgres.pid, stack.valkey.pid):
        process = psutil.Process(pid)
        assert process.username() == "nobody"
        assert 0 not in (*process.uids(), *process.gids())


def test_two_stacks_do_not_meet(data_dir: Path, stack: EmbeddedStack) -> None:
    with EmbeddedStack(data_dir, durable=False) as other:
        assert {other.database_url, other.redis_url}.isdisjoint({stack.database_url, stack.redis_url})
        answer(other.database_url, "SELECT pg_advisory_lock(1)")
        assert other.running
        assert stack.running


def test_a_second_stack_in_one_directory_is_refused(stack: EmbeddedStack) -> None:
    with pytest.raises(StackAlreadyRunning, match=rf"is in use by process {os.getpid()}: ") as refusal:
        EmbeddedStack(stack.data_dir).start()
    assert (refusal.value.pid, refusal.value.directory) == (os.getpid(), stack.data_dir)
    with pytest.raises(StackAlreadyRunning):
        EmbeddedPostgres(stack.data_dir / "postgres").start()
    assert answer(stack.database_url, "SELECT 1") == 1, "the one that runs is not disturbed"


def test_the_state_file_tells_others_how_to_connect(data_dir: Path) -> None:
    assert read_state(data_dir) is None
    stack = EmbeddedStack(data_dir, durable=False)
    with pytest.raises(EmbeddedError, match="does not run"):
        stack.update_state(flower="http://127.0.0.1:5555")
    with stack:
        stack.update_state(flower="http://127.0.0.1:5555", workers=2)
        stack.update_state(workers=None)
        state = read_state(data_dir)
        assert state is not None
        assert (state.pid, state.database_url, state.redis_url) == (
            os.getpid(),
            stack.database_url,
            stack.redis_url,
        )
        assert state.values == {"flower": "http://127.0.0.1:5555"}
        assert state.started_at.utcoffset() is not None
        file = data_dir / "state.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.write_text("{}")
        with pytest.raises(EmbeddedError, match="is not a state file of this version"):
            read_state(data_dir)
    assert read_state(data_dir) is None
    assert not file.exists()


def test_a_server_outlives_the_thread_that_started_it(scratch: Path) -> None:
    valkey = EmbeddedValkey(scratch / "vk", durable=False)
    thread = threading.Thread(target=valkey.start)
    thread.start()
    thread.join()
    try:
        with connect_redis(valkey.url) as broker:
            assert broker.ping()
    finally:
        valkey.stop()
