"""Checks of workers for `doctor`: which answer, and whether one of them belongs to another installation."""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.storage import installation
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.installation import Installation
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.cli.operator import query
from pattern_storage.tasks.cli.output import utc
from pattern_storage.tasks.cli.remote_control import REGISTERED, Answers, broadcast, our_workers
from pattern_storage.tasks.installation_signs import COMMAND, KEY, read_signs
from pattern_storage.tasks.sender import create_app

#: Seconds to wait for the workers' answers at most.
TIMEOUT = 2.0


@dataclass(frozen=True)
class Workers:
    """Answers of the workers that run: who they are, whose tables they write, and the queues that they take from.

    `shared` are names that another worker has as well, of ours or of another application. `queues` is None where one
    of them has not told its own; `error` says why none could be asked.
    """

    names: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    installations: Answers = field(default_factory=list)
    queues: frozenset[str] | None = None
    error: Exception | None = None


def ask_workers(settings: Settings) -> Workers:
    """Ask all workers of this broker, by remote control."""
    timeout = min(settings.connect_timeout, TIMEOUT)
    with closing(create_app(settings)) as app:
        try:
            registered = broadcast(app, REGISTERED, timeout)
            names = our_workers(registered)
            asked = sorted(name for name, _ in registered if name in names)
            installations = broadcast(app, COMMAND, timeout, asked)
            consumers = broadcast(app, "active_queues", timeout, asked)
        except (OSError, RedisError, OperationalError) as error:
            return Workers(error=error)
    shared = sorted({name for name in asked if asked.count(name) > 1})
    complete = len(consumers) == len(asked)
    queues = frozenset(queue["name"] for _, own in consumers for queue in own) if complete else None
    return Workers(names, shared, installations, queues)


def check_workers(settings: Settings, workers: Workers) -> Iterator[Finding]:
    """Yield findings about the workers of these queues."""
    if workers.error is not None:
        yield Finding("workers", False, f"cannot ask: {workers.error}", "see the lines above", unreachable=True)
        return
    advice = "" if workers.names else "start one: 'celery -A pattern_storage worker', or 'pattern-storage up'"
    if workers.shared:
        advice = f"several workers are called {', '.join(workers.shared)}; give each a name of its own: '-n own@%h'"
    yield Finding("workers", bool(workers.names), ", ".join(workers.names) or "none answers", advice)
    yield from _other_installations(settings, workers.installations)


def _other_installations(settings: Settings, answers: Answers) -> Iterator[Finding]:
    """Look for workers that take jobs from these queues, and write to the tables of another installation."""
    ours = None
    with suppress(StorageError):
        ours = query(installation.find, settings)
    if ours is None:
        return
    is_redis = settings.broker_kind.is_redis
    prefix = "give each installation a PATTERN_STORAGE_KEY_PREFIX of its own, or another Redis database"
    advice = prefix if is_redis else "give each installation a virtual host of its own"
    running = set()
    # A worker of another application that has the name of ours does not know the command.
    for name, identity in sorted((name, answer) for name, answer in answers if isinstance(answer, list)):
        if tuple(identity) != ours:
            other = Installation(*(*map(str, identity), "?", "?", "?")[:3])
            running.add(other)
            yield Finding("installation", False, f"{name} writes to {_location(other, ours)}", advice)
    for other, seen_at in _signs(settings).items() if is_redis else ():
        if other not in running | {ours}:
            yield Finding(
                "installation", False,
                f"a worker took jobs from these queues at {utc(seen_at)} UTC for {_location(other, ours)}",
                f"{advice}; if that one is gone for good, delete the Redis key {settings.key_prefix}{KEY}",
            )  # fmt: skip


def _location(other: Installation, ours: Installation) -> str:
    where = "of another server" if other.server != ours.server else "of the same server"
    return f"database {other.database}, schema {other.schema} {where}"


def _signs(settings: Settings) -> dict[Installation, datetime]:
    """Return when each installation's workers were seen last; a server that is down or refuses has its own finding."""
    with suppress(RedisError, OSError), redis_connections.connect(settings, settings.broker) as server:
        return read_signs(server, settings.key_prefix)
    return {}
