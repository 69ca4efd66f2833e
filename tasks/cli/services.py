"""Processes that commands start, watch and stop: worker, beat, relay and Flower."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.embedded import DirectoryUnusable, EmbeddedError, EmbeddedStack
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.launcher import launch
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.ports import is_free, port_for
from pattern_storage.embedded.process import ServerProcess
from pattern_storage.embedded.state import LOCK_FILE, STATE_FILE
from pattern_storage.storage import schema
from pattern_storage.tasks.cli import flower
from pattern_storage.tasks.cli.output import err
from pattern_storage.tasks.cli.remote_control import REGISTERED, broadcast, our_workers
from pattern_storage.tasks.cli.restarts import Restarts
from pattern_storage.tasks.sender import create_app

#: Seconds until a started worker, and Flower, must answer.
START_TIMEOUT = 60.0
#: Seconds in which a service ends once it is told to.
STOP_TIMEOUT = 10.0
#: Seconds between two looks for processes that have ended by themselves.
POLL_INTERVAL = 0.2
#: Services that are commands of ours; the others are Celery's.
OWN = frozenset({"relay"})
#: Celery's commands for services of another name.
SUBCOMMANDS = {"imports": "worker"}
#: Those that execute jobs.
WORKERS = ("worker", "imports")


@dataclass
class Services:
    """Running services by name, how to start one of them again, and the settings that they have."""

    processes: dict[str, ServerProcess]
    start: Callable[[str], ServerProcess]
    settings: Settings


@contextmanager
def running_stack(data_dir: Path) -> Iterator[tuple[EmbeddedStack, Settings]]:
    """Run migrated embedded servers in a folder; yields them with settings that point there."""
    with EmbeddedStack(data_dir) as stack:
        schema.upgrade(stack.database_url)
        # All of them, so that no variable sends a job elsewhere.
        urls = dict.fromkeys(("redis_url", "broker_url", "result_backend_url"), stack.redis_url)
        yield stack, load_settings(data_dir=data_dir, database_url=stack.database_url, **urls)


@contextmanager
def held_folder(data_dir: Path) -> Iterator[None]:
    """Hold a data directory whose servers run elsewhere, as `running_stack` holds that of its own.

    Raises:
        StackAlreadyRunning: another process holds it.
        DirectoryUnusable: it cannot be created.
    """
    lock = DirectoryLock(make_folder(data_dir) / LOCK_FILE)
    lock.acquire()
    try:
        # The file of a killed stack would be taken for that of a running one, now that the lock is held again.
        (data_dir / STATE_FILE).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def make_folder(folder: Path) -> Path:
    """Create the folder of the services, unless it is there, and return it. Raises DirectoryUnusable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryUnusable(
            f"Cannot create {folder}: {error.strerror}. Choose another data directory with PATTERN_STORAGE_DATA_DIR."
        ) from error
    return folder


@contextmanager
def running_services(
    settings: Settings,
    folder: Path,
    ports: Mapping[str, int] | None = None,
    other_port: Callable[[], Settings] | None = None,
    **commands: Sequence[str],
) -> Iterator[Services]:
    """Run services until the block ends; then stop them gracefully.

    Args:
        settings: the servers that they use.
        folder: where they run, keep their files and write their logs (`<name>.log`).
        ports: the ports of metrics, by the names of services; the others serve none.
        other_port: returns settings with another port for Flower, if a program took the first before Flower could.
        commands: the arguments of each service by its name, for example `worker=["--concurrency=2"]`.

    Raises:
        EmbeddedError: if one does not start; it shows the end of its log.
    """
    # Celery and Flower prefer CELERY_* and FLOWER_*, which may be meant for an application of the user's.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "FLOWER_"))}
    environment = inherited | {
        "DATABASE_URL": settings.database,
        "REDIS_URL": settings.redis_url or settings.result_backend,
        "BROKER_URL": settings.broker,
        "RESULT_BACKEND_URL": settings.result_backend,
        "PATTERN_STORAGE_DATA_DIR": str(settings.data_dir),
        # A worker gets SIGQUIT after the time for its running jobs, see `_stop`.
        "REMAP_SIGTERM": "",
    }
    if settings.imports_file is not None:
        # Absolute by now: they run in another folder.
        environment["PATTERN_STORAGE_IMPORTS_FILE"] = str(settings.imports_file)
    make_folder(folder)
    ourselves = Account(os.geteuid(), os.getegid(), switched=False)
    with ExitStack() as stack:

        def start(name: str) -> ServerProcess:
            program = ["pattern_storage"] if name in OWN else ["celery", "-A", "pattern_storage"]
            command = [sys.executable, "-m", *program, SUBCOMMANDS.get(name, name), *commands[name]]
            service = launch(
                name, command,
                account=ourselves, log=ServerLog(folder / f"{name}.log"), death_signal=_last_signal(name),
                # Not the user's folder, which may hold packages called tasks, storage or config.
                directory=folder,
                environment=environment
                | ({"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "0"} if name in WORKERS else {})
                | {"PATTERN_STORAGE_METRICS_PORT": str((ports or {}).get(name, 0))}
                | (flower.variables(settings) if name == "flower" else {}),
            )  # fmt: skip
            stack.callback(_stop, name, service, settings.soft_shutdown_timeout)
            return service

        services = {name: start(name) for name in commands}
        if "worker" in services:
            with closing(create_app(settings)) as app:
                services["worker"].wait_ready(
                    lambda: bool(our_workers(broadcast(app, REGISTERED, 0.3))), timeout=START_TIMEOUT
                )
        if "flower" in services:
            try:
                services["flower"].wait_ready(lambda: flower.shows_a_worker(settings), timeout=START_TIMEOUT)
            except EmbeddedError:
                if other_port is None or is_free(settings.flower_port):
                    raise
                settings = other_port()
                services["flower"] = start("flower")
                services["flower"].wait_ready(lambda: flower.shows_a_worker(settings), timeout=START_TIMEOUT)
        yield Services(services, start, settings)


def _last_signal(name: str) -> signal.Signals:
    """Return the signal with which a service ends soon: a worker hands back what it has not finished."""
    return signal.SIGQUIT if name in WORKERS else signal.SIGTERM


def _stop(name: str, service: ServerProcess, soft_shutdown_timeout: float) -> None:
    """Stop a service; a worker has so many seconds for its running jobs.

    In a warm shutdown, which ends with the last job: Celery's soft shutdown takes all of its seconds if any job runs.
    """
    if name in WORKERS and soft_shutdown_timeout:
        service.ask(signal.SIGTERM, timeout=soft_shutdown_timeout)
    service.stop(_last_signal(name), timeout=STOP_TIMEOUT)


def metrics_ports(settings: Settings, folder: Path, *names: str) -> dict[str, int]:
    """Return a free port for the metrics of each service: the same at every start, as long as it stays free.

    The first service has the port of the settings, where these name one. Raises EmbeddedError if no port is free.
    """
    make_folder(folder)
    ports = {name: port_for(folder / f"{name}-metrics.port") for name in names}
    if settings.metrics_port:
        ports[names[0]] = settings.metrics_port
    return ports


def supervise(services: Services, embedded: EmbeddedStack | None) -> None:
    """Start what has ended by itself again, services and embedded servers, until interrupted.

    Raises:
        EmbeddedError: one ends again and again (of Flower that is only said), or a server cannot be started again
            where it was.
    """
    servers = [embedded.postgres, embedded.valkey] if embedded else []
    restarts = Restarts()
    while True:
        for server in servers:
            if not server.running and restarts.allow(server.NAME, server):
                before = server.url
                server.start()
                if server.url != before:
                    raise EmbeddedError(f"{server.NAME} ended by itself, and its port is taken: start 'up' again")
        for name, service in list(services.processes.items()):
            if service.running:
                continue
            try:
                if restarts.allow(name, service):
                    services.processes[name] = services.start(name)
            except EmbeddedError as error:
                # Nothing depends on Flower, which only shows.
                if name != "flower":
                    raise
                del services.processes[name]
                err.print(Text(f"{error}\nThe others go on without {name}."))
        time.sleep(POLL_INTERVAL)
