"""Rights of a Redis user: what a service lacks is named, and the docs list what the code does."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.redis_rights import RIGHTS, acl_rules
from pattern_storage.config.settings import Settings
from pattern_storage.tasks.observability.metrics.servers import ServersCollector
from pattern_storage.tasks.redis_rights_check import ARGUMENTS, AROUND, missing_rights
from tests.fix_cli import Cli
from tests.fix_process import ROOT

PREFIX, USER = "team-a:", "limited"
Limited = Callable[..., str]


@pytest.fixture
def limited(redis_url: str) -> Iterator[Limited]:
    """Give a user the rights of a service, and further rules; return its URL."""
    parts = urlsplit(redis_url)
    with redis.Redis.from_url(redis_url) as opened:
        admin: Any = opened

        def limit(service: str, *rules: str) -> str:
            database = int(parts.path.strip("/") or 0)
            own = acl_rules(service, PREFIX, database)
            admin.execute_command("ACL", "SETUSER", USER, "reset", "on", ">secret", *own, *rules)
            return parts._replace(netloc=f"{USER}:secret@{parts.hostname}:{parts.port}").geturl()

        yield limit
        admin.acl_deluser(USER)


@pytest.mark.parametrize("service", RIGHTS)
def test_each_right_that_is_missing_is_named(limited: Limited, redis_url: str, service: str) -> None:
    settings = Settings(redis_url=redis_url, key_prefix=PREFIX)
    url = limited(service)
    assert missing_rights(settings, url, service) == []
    for command in sorted(RIGHTS[service].commands - AROUND):
        limited(service, f"-{command}")
        assert missing_rights(settings, url, service) == [f"+{command}"]
    limited(service, "-multi")
    assert "+multi" in missing_rights(settings, url, service)
    database = int(urlsplit(redis_url).path.strip("/") or 0)
    patterns = [f"~{PREFIX}{key}" for key in RIGHTS[service].keys]
    patterns += [f"&{PREFIX}{channel.format(db=database)}" for channel in RIGHTS[service].channels]
    for kind in "~&":
        own = [pattern for pattern in patterns if pattern[0] == kind]
        for missing in own:
            limited(service, "resetkeys" if kind == "~" else "resetchannels", *(one for one in own if one != missing))
            # A wider pattern may stand for a narrower one: an event of a worker is an event.
            assert missing_rights(settings, url, service) in ([missing], [])
        limited(service, "resetkeys" if kind == "~" else "resetchannels")
        assert missing_rights(settings, url, service) == own


def test_nothing_is_done(limited: Limited, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, key_prefix=PREFIX)
    url = limited("worker")
    with redis.Redis.from_url(redis_url) as store:
        store.flushdb()
        missing_rights(settings, url, "worker")
        assert store.keys() == []


def test_doctor_says_what_is_refused(limited: Limited, redis_url: str, database_url: str, cli: Cli) -> None:
    def rights(service: str, *rules: str) -> dict[str, Any]:
        variables: dict[str, Any] = {
            "DATABASE_URL": database_url,
            "REDIS_URL": limited(service, *rules),
            "PATTERN_STORAGE_KEY_PREFIX": PREFIX,
            "PATTERN_STORAGE_CONNECT_TIMEOUT": "1",
        }
        lines: dict[str, dict[str, Any]] = {line["subject"]: line for line in cli("doctor", "--json", **variables).json}
        return lines["Redis (results and queue): rights"] | {"server": lines["Redis (results and queue)"]}

    assert rights("beat")["found"].startswith("enough for beat; a user of ")
    refused = rights("beat", "-lpush", "resetchannels")
    assert not refused["ok"]
    assert "enough for no service; a user of beat needs +lpush &team-a:/" in refused["found"]
    # A server that does not tell about itself is not taken for one that is down.
    server = rights("beat", "-info")["server"]
    assert "+info" in server["advice"]
    assert "start" not in server["advice"]
    assert not server["unreachable"]


@pytest.mark.parametrize("service", ["worker", "relay"])
def test_metrics_are_read_as_the_service_that_serves_them(
    limited: Limited, redis_url: str, database_url: str, service: str
) -> None:
    settings = Settings(database_url=database_url, redis_url=limited(service), key_prefix=PREFIX)
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_log_reset()
        families = {family.name: family for family in ServersCollector(settings).collect()}
        up = {sample.labels["server"]: sample.value for sample in families["pattern_storage_up"].samples}
        assert up == {"postgresql": 1.0, "broker": 1.0, "results": 1.0}
        assert len(families["pattern_storage_queue_oldest_seconds"].samples) == len(QUEUES)
        assert [line for line in admin.acl_log() if line["username"] == USER] == []


def test_every_command_can_be_asked_for() -> None:
    assert set().union(*(rights.commands for rights in RIGHTS.values())) - AROUND == set(ARGUMENTS)


def test_the_docs_list_the_rights() -> None:
    text = (ROOT / "docs/redis.md").read_text()
    for service in RIGHTS:
        assert f"user {service} on >password {' '.join(acl_rules(service))}\n" in text
