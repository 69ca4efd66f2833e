"""The command `health`: checks whether a service can do its work, not only whether its process is there."""

import socket
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError

import typer
from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.embedded import read_state
from pattern_storage.storage import import_schedules, outbox, roles
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.cli import flower
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.operator import query
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, out, print_json, utc
from pattern_storage.tasks.cli.remote_control import ALL, REGISTERED, broadcast, our_workers
from pattern_storage.tasks.errors import ResultBackendUnavailable
from pattern_storage.tasks.imports.plan.imports_file import load_entries
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.operate.queues import broker_errors
from pattern_storage.tasks.sender import create_app

#: A key that a check writes, and the seconds for which it stays. A server that is full, or a replica, refuses it.
KEY, SECONDS = "pattern-storage-health", 60

#: Seconds after which the file of a beat that runs is written again: every three minutes, unless it is busy meanwhile.
WRITTEN = 600


class Service(StrEnum):
    """Kinds of processes whose health can be checked."""

    WORKER = "worker"
    RELAY = "relay"
    BEAT = "beat"
    FLOWER = "flower"


class NotWorking(Exception):
    """The service cannot do its work; the text says why."""


def health(
    service: Annotated[Service, typer.Argument(metavar="SERVICE", help="The kind of process to check.")],
    name: Annotated[
        str | None, typer.Option(help="Of a worker: its node name, by default celery@ and the name of this host.")
    ] = None,
    oldest: Annotated[
        float,
        typer.Option(
            min=1,
            help="Seconds that a job may wait in the outbox (of a relay), or an import after it was due (of beat).",
        ),
    ] = 120.0,
    schedule: Annotated[
        Path | None,
        typer.Option(help="Of beat: the file of its --schedule; by default that of a running 'up', or Celery's own."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Exit 0 if a service on this host can work, 1 if it cannot, 3 if a server is unreachable."""
    settings = load_settings()
    try:
        if _uses_postgresql(service, settings):
            entries = load_entries(settings.imports_file) if service is Service.BEAT and settings.imports_file else []
            check = partial(_postgresql, service=service, oldest=oldest, entries=entries)
            if complaint := query(check, settings):
                raise NotWorking(complaint)
        _redis(settings)
        match service:
            case Service.WORKER:
                _worker(settings, name or f"celery@{socket.gethostname()}")
            case Service.RELAY:
                _broker(settings)
            case Service.BEAT:
                _broker(settings)
                _beat(schedule or _schedule(settings))
            case Service.FLOWER:
                _broker(settings)
                _flower(settings)
    except NotWorking as reason:
        if as_json:
            print_json({"service": service, "ok": False, "reason": str(reason)})
        else:
            err.print(str(reason))
        raise typer.Exit(Exit.FAILED) from None
    if as_json:
        print_json({"service": service, "ok": True, "reason": None})
    else:
        out.print("ok")


def _uses_postgresql(service: Service, settings: Settings) -> bool:
    # Without a database, beat sends housekeeping tasks only, and plans no imports.
    return service is not Service.FLOWER and (service is not Service.BEAT or settings.database_url is not None)


async def _postgresql(
    connection: Connection, *, service: Service, oldest: float, entries: list[ImportEntry]
) -> str | None:
    """Return what is wrong, if anything is."""
    if not await roles.can_write(connection):
        return "PostgreSQL answers, but takes no writes from this role: a standby, read-only, or no rights"
    if service is Service.RELAY and (waiting := await outbox.measure(connection)).age > oldest:
        return f"a job has waited for {waiting.age:.0f} s in the outbox; {oldest:g} s are allowed"
    if service is Service.BEAT:
        return _undecided(entries, await import_schedules.decided(connection), timedelta(seconds=oldest))
    return None


def _undecided(entries: list[ImportEntry], decided: dict[str, datetime], oldest: timedelta) -> str | None:
    """Return a complaint if no beat follows the imports file as it is now."""
    for entry in entries:
        if not entry.enabled or entry.due is None:
            continue
        if entry.name not in decided:
            return f"no beat follows import {entry.name!r}; it reads the imports file when it starts"
        due = entry.due.after(decided[entry.name])
        if due is not None and datetime.now(UTC) - due > oldest:
            return f"import {entry.name!r} was due at {utc(due)} UTC, and no beat has seen to it"
    return None


def _redis(settings: Settings) -> None:
    urls = {settings.result_backend} | ({settings.broker} if settings.broker_kind.is_redis else set())
    for url in urls:
        try:
            with redis_connections.connect(settings, url) as server:
                server.set(f"{settings.key_prefix}{KEY}", "1", ex=SECONDS)
        except RedisError as error:
            raise ResultBackendUnavailable(f"Redis takes no writes: {error}") from error


def _broker(settings: Settings) -> None:
    """Connect to a broker that is not Redis, which has its own check."""
    if settings.broker_kind.is_redis:
        return
    with broker_errors(), closing(create_app(settings)) as app, app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)


def _schedule(settings: Settings) -> Path:
    return settings.data_dir / "celery/beat-schedule" if read_state(settings.data_dir) else Path("celerybeat-schedule")


def _beat(schedule: Path) -> None:
    # Python's `dbm` writes one file or several.
    written = max((path.stat().st_mtime for path in schedule.parent.glob(f"{schedule.name}*")), default=None)
    if written is None:
        raise NotWorking(f"beat has written no {schedule.absolute()}")
    if (age := time.time() - written) > WRITTEN:
        raise NotWorking(f"beat has not written {schedule} for {age:.0f} s; it does every three minutes")


def _flower(settings: Settings) -> None:
    settings = flower.of_running_up(settings)
    try:
        flower.workers(settings, timeout=settings.connect_timeout)
    except HTTPError as error:
        # Without a password nobody expects to be let in: Flower is up and asks for it.
        if error.code != HTTPStatus.UNAUTHORIZED or settings.flower_password:
            raise NotWorking(f"Flower at {flower.address(settings)} answers {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NotWorking(f"Flower does not answer at {flower.address(settings)}: {error}") from None


def _worker(settings: Settings, name: str) -> None:
    with broker_errors(), closing(create_app(settings)) as app:
        ask = partial(broadcast, app, REGISTERED, settings.connect_timeout, [name])
        answers = ask()
        if answers and not our_workers(answers):
            # A worker of another application that has the same name was quicker.
            answers = ask(limit=ALL)
    if not answers:
        raise NotWorking(f"{name} does not answer")
    if not our_workers(answers):
        raise NotWorking(f"{name} does not answer; a worker of another application that has this name does")
