"""Embedded servers that crash, fail to start or lose their port: they come back, or say in a sentence why not."""

import socket
from pathlib import Path

import psutil
import psycopg
import pytest

from pattern_storage.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey, ports
from tests.fix_embedded import answer, connect_redis

SERVERS = [("postgres", EmbeddedPostgres), ("valkey", EmbeddedValkey)]


@pytest.mark.parametrize(("name", "server"), SERVERS)
def test_a_port_that_was_taken_meanwhile_is_changed(
    data_dir: Path, name: str, server: type[EmbeddedPostgres | EmbeddedValkey]
) -> None:
    with server(data_dir / name, durable=False) as first:
        port = int(first.url.rsplit(":")[-1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)), server(data_dir / name, durable=False) as second:
        assert second.url != first.url
        assert second.running


@pytest.mark.parametrize(("name", "server"), SERVERS)
def test_a_port_lost_between_look_and_bind_is_tried_again(
    data_dir: Path, name: str, server: type[EmbeddedPostgres | EmbeddedValkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        (data_dir / name).mkdir(exist_ok=True)
        (data_dir / name / "port").write_text(str(thief.getsockname()[1]))
        looks = iter([True])  # says the taken port is free, once
        really = ports.is_free
        monkeypatch.setattr(ports, "is_free", lambda port: next(looks, None) or really(port))
        with server(data_dir / name, durable=False) as running:
            assert running.running
            assert str(thief.getsockname()[1]) not in running.url


def test_a_crashed_postgres_recovers_under_the_same_url(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir / "postgres") as postgres:
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
            connection.commit()
            assert postgres.pid is not None
            family = psutil.Process(postgres.pid).children(recursive=True)
            postgres.kill()
            assert not postgres.running
            assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        url = postgres.url
        postgres.start()
        assert postgres.url == url
        assert answer(url, "SELECT n FROM kept") == 7


def test_a_crashed_valkey_keeps_what_it_acknowledged(scratch: Path) -> None:
    with EmbeddedValkey(scratch / "vk") as valkey:
        with connect_redis(valkey.url) as broker:
            broker.rpush("queue", *range(500))
            valkey.kill()
            assert not valkey.running
        valkey.start()
        with connect_redis(valkey.url) as broker:
            assert broker.llen("queue") == 500


def test_a_failed_start_shows_the_log_and_gives_the_directory_back(data_dir: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"(?s)ended with status 1 while starting.*work_mem") as failure:
        EmbeddedPostgres(data_dir / "postgres", durable=False, settings={"work_mem": "plenty"}).start()
    assert str(data_dir / "postgres" / "server.log") in str(failure.value)
    with EmbeddedPostgres(data_dir / "postgres", durable=False) as postgres:
        assert postgres.running


def test_a_lost_password_is_one_clear_sentence(data_dir: Path) -> None:
    (data_dir / "postgres" / "password").unlink()
    with pytest.raises(EmbeddedError, match=r"password is missing, .* put the file back"):
        EmbeddedPostgres(data_dir / "postgres").start()
