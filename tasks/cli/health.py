"""The command for health checks: whether a service can do its work, not only whether its process lives."""

import socket
from enum import StrEnum
from typing import Annotated

import typer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from config.settings import Settings, load_settings
from storage import outbox, roles
from storage.operations.base import Connection
from tasks import result_store
from tasks.app import create_app
from tasks.cli.exits import Exit
from tasks.cli.output import err, out
from tasks.client.archive import Archive, wait_for
from tasks.errors import BrokerUnavailable, ResultBackendUnavailable

#: A key that a check writes. A server that is full, or a replica, refuses it; whoever reads it learns nothing.
KEY, SECONDS = "pattern-storage-health", 60


class Service(StrEnum):
    """What can be asked about."""

    WORKER = "worker"
    RELAY = "relay"


class NotWorking(Exception):
    """The service cannot do its work; the text says why."""


def health(
    service: Annotated[Service, typer.Argument(help="The kind of process that should be able to work.")],
    name: Annotated[
        str | None, typer.Option(help="Of a worker: its node name, by default celery@ and the name of this host.")
    ] = None,
    oldest: Annotated[
        float, typer.Option(min=1, help="Of a relay: seconds that a job may wait in the outbox before it is published.")
    ] = 120.0,
) -> None:
    """Exit 0 if a worker or relay on this host can work, 1 if it cannot, 3 if a server is unreachable."""
    settings = load_settings()
    try:
        if complaint := wait_for(Archive(settings).ask(lambda connection: _postgresql(connection, service, oldest))):
            raise NotWorking(complaint)
        _redis(settings)
        if service is Service.WORKER:
            _worker(settings, name or f"celery@{socket.gethostname()}")
    except NotWorking as reason:
        err.print(str(reason))
        raise typer.Exit(Exit.FAILED) from None
    out.print("ok")


async def _postgresql(connection: Connection, service: Service, oldest: float) -> str | None:
    if not await roles.can_write(connection):
        return "PostgreSQL answers, but takes no writes from this role: a standby, read-only, or no rights"
    if service is Service.RELAY and (waiting := await outbox.measure(connection)).age > oldest:
        return f"a job has waited for {waiting.age:.0f} s in the outbox; {oldest:g} s are allowed"
    return None


def _redis(settings: Settings) -> None:
    urls = {settings.result_backend} if settings.on_rabbitmq else {settings.result_backend, settings.broker}
    for url in urls:
        try:
            with result_store.connect(settings, url) as server:
                server.set(KEY, "1", ex=SECONDS)
        except RedisError as error:
            raise ResultBackendUnavailable(f"Redis takes no writes: {error}") from error


def _worker(settings: Settings, name: str) -> None:
    app = create_app(settings)
    try:
        answers = app.control.ping(destination=[name], timeout=settings.connect_timeout)
    except (OSError, RedisError, OperationalError) as error:
        raise BrokerUnavailable(f"the queue does not answer: {error}") from error
    finally:
        app.close()
    if not answers:
        raise NotWorking(f"{name} does not answer")
