"""Checks of `doctor` in Redis: the server, its settings and connections, our keys, and the rights of our user."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import redis
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from pattern_storage.config.broker import UNACKED_KEYS, transport_options
from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.redis_rights import RIGHTS
from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.cli.health import KEY
from pattern_storage.tasks.cli.output import plural
from pattern_storage.tasks.redis_errors import passing
from pattern_storage.tasks.redis_rights_check import missing_rights
from pattern_storage.tasks.redis_server import complaints
from pattern_storage.tasks.transport.qos import GRACE

OLDEST_REDIS = (6, 2)
#: Part of the connections that may be in use: the rest is for a restart, when old and new processes are there.
FULL = 0.8


def check_redis_servers(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the servers of queue and results."""
    for check in (_servers, _rights, _kind, _unrenewed):
        yield from check(settings)


def _subjects(settings: Settings) -> dict[str, str]:
    """Return the URLs of Redis servers, and the subject of the findings about each."""
    urls = {"results": settings.result_backend}
    if settings.broker_kind.is_redis:
        urls["queue"] = settings.broker
    return {url: f"Redis ({' and '.join(n for n, u in urls.items() if u == url)})" for url in urls.values()}


def _servers(settings: Settings) -> Iterator[Finding]:
    for url, subject in _subjects(settings).items():
        try:
            with redis_connections.connect(settings, url) as server:
                yield from _server(subject, server.info())
                yield from _writes(subject, server, settings)
                yield from _keys(subject, server, settings)
        except NoPermissionError as error:
            advice = "grant its user '+info'; without it this command cannot look at version, persistence and memory"
            yield Finding(subject, False, str(error), advice)
        except ResponseError as error:
            yield Finding(subject, False, str(error), "correct REDIS_URL; docs/redis.md says what is supported")
        except RedisError as error:
            if (refusal := passing(error)) is not None:
                # The server runs: starting it would not help.
                yield _refuses(subject, refusal)
                continue
            yield Finding(subject, False, str(error), "start Redis or Valkey, or correct REDIS_URL", unreachable=True)


def _kind(settings: Settings) -> Iterator[Finding]:
    for complaint in complaints(settings):
        yield Finding("Redis", False, complaint, "docs/redis.md says what is supported")


def _unrenewed(settings: Settings) -> Iterator[Finding]:
    """Yield how many messages no worker renews: a worker that lives renews those that it holds more often than this."""
    if not settings.broker_kind.is_redis:
        return
    timeout, key = settings.visibility_timeout, f"{settings.key_prefix}{UNACKED_KEYS['unacked_index_key']}"
    found: list[tuple[bytes, float]] = []
    now = 0.0
    # The findings about the server say why it does not answer.
    with suppress(RedisError, OSError), redis_connections.connect(settings, settings.broker) as server:
        seconds, micros = server.time()
        now = seconds + micros / 1e6
        found = server.zrangebyscore(key, "-inf", now - timeout / 2, withscores=True)
    if not found:
        return
    (_, first), (_, last) = found[0], found[-1]
    text = f"{plural(len(found), 'message')} of workers that ended or are cut off, not renewed for {now - first:,.0f} s"
    if now - first > 2 * timeout:
        yield Finding("messages in workers", False, text, "start a worker for their queues, which delivers them again")
        return
    left, sweep = max(last + timeout - now, 0), transport_options(settings)["unacked_restore_interval"]
    advice = f"nothing: workers get them again within {left + sweep:,.0f} s"
    # A worker that has just connected delivers nothing again for a while: others may have yet to renew what they hold.
    if settings.safe_transport and (grace := GRACE * timeout) > left:
        advice += f", or {grace + sweep:,.0f} s where all of them have connected to Redis just now"
    yield Finding("messages in workers", True, text, advice)


def _rights(settings: Settings) -> Iterator[Finding]:
    """Yield the services for which the user of each URL has enough rights, and what it lacks for the nearest other."""
    for url, subject in _subjects(settings).items():
        try:
            missing = {service: missing_rights(settings, url, service) for service in RIGHTS}
        except (RedisError, OSError):
            # The findings about the server say why.
            continue
        enough = [service for service, lacking in missing.items() if not lacking]
        nearest = min((service for service in RIGHTS if missing[service]), key=lambda s: len(missing[s]), default=None)
        found = f"enough for {', '.join(enough)}" if enough else "enough for no service"
        if nearest is not None:
            found += f"; a user of {nearest} needs {' '.join(missing[nearest])} as well"
        advice = "" if enough else "grant it what is missing; docs/redis.md lists the rights of each service"
        yield Finding(f"{subject}: rights", bool(enough), found, advice)


def _server(subject: str, info: dict[str, Any]) -> Iterator[Finding]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    new = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS
    yield Finding(subject, new, f"{name} {version}", "" if new else "upgrade to 6.2 or later")
    kept = bool(info.get("aof_enabled"))
    yield Finding(
        f"{subject}: persistence", kept, "append-only file is on" if kept else "append-only file is off",
        "" if kept else "set 'appendonly yes', or a restart loses the jobs that wait",
    )  # fmt: skip
    policy = str(info.get("maxmemory_policy"))
    yield Finding(
        f"{subject}: memory", policy == "noeviction", f"maxmemory-policy {policy}",
        "" if policy == "noeviction" else "set 'maxmemory-policy noeviction', or a full server drops jobs in silence",
    )  # fmt: skip
    clients, limit = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if limit:
        roomy = clients <= FULL * limit
        yield Finding(
            f"{subject}: connections", roomy, f"{clients} of {limit}",
            "" if roomy else "raise 'maxclients': docs/redis.md has how many each service needs",
        )  # fmt: skip


def _writes(subject: str, server: "redis.Redis", settings: Settings) -> Iterator[Finding]:
    try:
        # A write that changes nothing, to the key that `health` writes.
        server.setrange(f"{settings.key_prefix}{KEY}", 0, "")
    except NoPermissionError:
        # The finding about rights names it.
        return
    except RedisError as error:
        if not isinstance(error, ResponseError) and passing(error) is None:
            raise
        yield _refuses(subject, passing(error) or error)


def _refuses(subject: str, error: Exception) -> Finding:
    advice = "services wait until it takes writes; docs/redis.md has what to do for each cause"
    return Finding(f"{subject}: writes", False, str(error), advice)


def _keys(subject: str, server: "redis.Redis", settings: Settings) -> Iterator[Finding]:
    """Look for keys with our names under which another application keeps something else."""
    kinds = dict.fromkeys(QUEUES, "list") | {
        UNACKED_KEYS["unacked_key"]: "hash",
        UNACKED_KEYS["unacked_index_key"]: "zset",
    }
    with suppress(NoPermissionError):
        for key, kind in kinds.items():
            found = bytes_to_str(server.type(f"{settings.key_prefix}{key}"))
            if found not in (kind, "none"):
                yield Finding(
                    f"{subject}: keys", False, f"the key {settings.key_prefix}{key} holds a {found}, not a {kind}",
                    "another application uses the name: set PATTERN_STORAGE_KEY_PREFIX, or use another database",
                )  # fmt: skip
