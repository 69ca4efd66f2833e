"""The command that looks at everything a deployment needs, and says what to do about what is wrong."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import typer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from rich.text import Text

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import installation
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.installation import Installation
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.cli.doctor_postgresql import Finding, check_postgresql
from pattern_storage.tasks.cli.doctor_redis import check_redis_servers
from pattern_storage.tasks.cli.doctor_service import check_service
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.jobs import Json
from pattern_storage.tasks.cli.output import print_json, print_table
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.installation_signs import KEY, read_signs
from pattern_storage.tasks.sender import create_app


def doctor(as_json: Json = False) -> None:
    """Check servers, workers and what waits; exit 0 if all is well, 3 if a server is unreachable, else 1."""
    findings = check_all(load_settings())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        rows = [
            (Text("ok", "green") if each.ok else Text("WRONG", "bold red"), each.subject, each.found, each.advice)
            for each in findings
        ]
        print_table(("", "what", "found", "what to do"), rows)
    if any(finding.unreachable for finding in findings):
        raise typer.Exit(Exit.UNREACHABLE)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.FAILED)


def check_all(settings: Settings) -> list[Finding]:
    """Return what each check found. Flower's overview shows the same."""
    return [finding for check in CHECKS for finding in check(settings)]


def _workers(settings: Settings) -> Iterator[Finding]:
    app = create_app(settings)
    timeout = min(settings.connect_timeout, 2.0)
    try:
        answers = app.control.ping(timeout=timeout) or []
        named: dict[str, Any] = {"destination": sorted(names_of(answers)), "limit": len(answers), "timeout": timeout}
        installations = app.control.broadcast(installation.COMMAND, reply=True, **named) if answers else []
    except (OSError, RedisError, OperationalError) as error:
        yield Finding("workers", False, f"cannot ask: {error}", "see the lines above", unreachable=True)
        return
    finally:
        app.close()
    names = sorted(names_of(answers))
    yield Finding(
        "workers", bool(names), ", ".join(names) or "none answers",
        "" if names else "start one: 'celery -A pattern_storage worker', or 'pattern-storage up'",
    )  # fmt: skip
    yield from _strangers(settings, installations or [])


def names_of(answers: Iterable[dict[str, Any]]) -> list[str]:
    """Return the node names of workers that have answered; two installations may have the same."""
    return [name for answer in answers for name in answer]


def _strangers(settings: Settings, answers: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """Look for workers that take jobs from these queues, and write to the tables of another installation."""
    ours = None
    with suppress(StorageError):
        ours = run_sync(Database(settings).run(installation.find))
    if ours is None:
        return
    is_redis = settings.broker_kind.is_redis
    prefix = "give each installation a PATTERN_STORAGE_KEY_PREFIX of its own, or another Redis database"
    advice = prefix if is_redis else "give each installation a virtual host of its own"
    running = set()
    for name, told in sorted((name, told) for answer in answers for name, told in answer.items()):
        if isinstance(told, list) and tuple(told) != ours:
            other = Installation(*(*map(str, told), "?", "?", "?")[:3])
            running.add(other)
            yield Finding("installation", False, f"{name} writes to {_place(other, ours)}", advice)
    for other, seen_at in _signs(settings).items() if is_redis else ():
        if other not in running | {ours}:
            yield Finding(
                "installation", False,
                f"a worker took jobs from these queues at {seen_at:%Y-%m-%d %H:%M} UTC for {_place(other, ours)}",
                f"{advice}; if that one is gone for good, delete the Redis key {settings.key_prefix}{KEY}",
            )  # fmt: skip


def _place(other: Installation, ours: Installation) -> str:
    where = "of another server" if other.server != ours.server else "of the same server"
    return f"database {other.database}, schema {other.schema} {where}"


def _signs(settings: Settings) -> dict[Installation, datetime]:
    """Return the installations whose workers were here; of a server that is away or refuses other checks tell."""
    with suppress(RedisError, OSError), redis_connections.connect(settings, settings.broker) as server:
        return read_signs(server, settings.key_prefix)
    return {}


CHECKS = (check_postgresql, check_redis_servers, _workers, check_service)
