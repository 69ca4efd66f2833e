"""`doctor` on Redis: settings, memory, versions, passwords, and servers that load or refuse."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.cli.doctor_redis import _server
from tests.fix_cli import ABSENT_POSTGRES, ABSENT_REDIS, Said, found_wrong
from tests.fix_loading import LoadingValkey, loading


def test_what_is_wrong_with_redis(doctor: Callable[..., Said], database_url: str, lone_valkey: EmbeddedValkey) -> None:
    """Addresses are in test_redis_addresses.py, rights in test_redis_rights.py."""
    with redis.Redis.from_url(lone_valkey.url) as server:
        server.set("batch", "theirs")
        server.config_set("maxclients", "5")
        server.config_set("min-replicas-to-write", "1")
        others = [redis.Redis.from_url(lone_valkey.url, single_connection_client=True) for _ in range(3)]
        found = found_wrong(doctor("--json", DATABASE_URL=database_url, REDIS_URL=lone_valkey.url))
        for each in others:
            each.close()
    subject = "Redis (results and queue)"
    assert "too few replicas are connected" in found[f"{subject}: writes"]["found"]
    assert found[f"{subject}: keys"]["found"] == "the key batch holds a string, not a list"
    assert "PATTERN_STORAGE_KEY_PREFIX" in found[f"{subject}: keys"]["advice"]
    assert found[f"{subject}: connections"]["found"] == "5 of 5"


def test_messages_that_no_worker_renews(
    doctor: Callable[..., Said], database_url: str, lone_valkey: EmbeddedValkey
) -> None:
    """They come back by themselves, unless there is no worker at all."""
    index, now = UNACKED_KEYS["unacked_index_key"], time.time()
    urls = {"DATABASE_URL": database_url, "REDIS_URL": lone_valkey.url, "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "600"}

    def held() -> list[dict[str, Any]]:
        said = doctor("--json", **urls).json
        return [finding for finding in said if finding["subject"] == "messages in workers"]

    with redis.Redis.from_url(lone_valkey.url) as server:
        server.zadd(index, {"renewed": now})
        assert held() == []
        server.zadd(index, {"older": now - 500, "old": now - 400})
        [finding] = held()
        assert finding["ok"]
        assert re.match(r"2 messages of workers that ended or are cut off, not renewed for 5\d\d s", finding["found"])
        within = re.fullmatch(
            r"nothing: workers get them again within (\d+) s, or (\d+) s where all of them have connected to Redis"
            r" just now",
            finding["advice"],
        )
        assert within
        # What the newest has left of 600 s, or three quarters of them; then comes a sweep.
        assert int(within[1]) <= 210
        assert 450 < int(within[2]) <= 460
        stock = doctor("--json", **urls, PATTERN_STORAGE_SAFE_TRANSPORT="0").json
        [advice] = [one["advice"] for one in stock if one["subject"] == "messages in workers"]
        assert re.fullmatch(r"nothing: workers get them again within \d+ s", advice)
        server.zadd(index, {"older": now - 1_300})
        assert not held()[0]["ok"]
        server.delete(index)


def test_a_redis_that_loads_or_has_no_connection_left(
    doctor: Callable[..., Said], database_url: str, loading_valkey: LoadingValkey
) -> None:
    """It runs: starting it is no advice."""
    subject = "Redis (results and queue)"
    urls = {"DATABASE_URL": database_url, "REDIS_URL": loading_valkey.url}
    with loading(loading_valkey):
        loads = found_wrong(doctor("--json", **urls))
    assert "it is loading its data" in loads[f"{subject}: writes"]["found"]
    with redis.Redis.from_url(loading_valkey.url, single_connection_client=True) as only:
        only.config_set("maxclients", "1")
        full = found_wrong(doctor("--json", **urls))
        only.config_set("maxclients", "100")
    assert "it has too many clients" in full[f"{subject}: writes"]["found"]
    assert not any("start Redis" in finding["advice"] for finding in (*loads.values(), *full.values()))


def test_queue_and_results_are_looked_at_apart(
    doctor: Callable[..., Said], database_url: str, lone_valkey: EmbeddedValkey
) -> None:
    urls = {"DATABASE_URL": database_url, "RESULT_BACKEND_URL": lone_valkey.url}
    said = doctor("--json", BROKER_URL=ABSENT_REDIS, **urls)
    assert (said.code, set(found_wrong(said)) >= {"Redis (queue)", "workers"}) == (3, True)
    assert "Redis (results)" not in found_wrong(said)
    # RabbitMQ is no Redis to look into; that nobody is there is found by asking for workers.
    said = doctor("--json", BROKER_URL="amqp://127.0.0.1:1", **urls)
    assert said.code == 3
    assert "Redis (queue)" not in {finding["subject"] for finding in said.json}
    assert found_wrong(said)["workers"]["unreachable"]


@pytest.mark.parametrize("version", ["5.0.14", "6.0", "6.2.0", "7.4.1", "10.0.0"])
def test_a_redis_that_is_too_old(version: str) -> None:
    first = next(_server("Redis", {"redis_version": version, "aof_enabled": 1, "maxmemory_policy": "noeviction"}))
    assert first.ok == (version not in ("5.0.14", "6.0"))
    assert first.found == f"Redis {version}"
    assert first.advice == ("" if first.ok else "upgrade to 6.2 or later")


def test_a_wrong_password_is_not_taken_for_a_server_that_is_down(
    doctor: Callable[..., Said], lone_valkey: EmbeddedValkey
) -> None:
    url = lone_valkey.url.replace("@", "wrong@")
    said = doctor("--json", DATABASE_URL=ABSENT_POSTGRES, REDIS_URL=url)
    assert said.code == 3
    found = found_wrong(said)["Redis (results and queue)"]["found"]
    assert "password" in found
    assert url not in said.out
