"""The command that runs a whole system on this machine: servers, worker, beat and relay."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from config.settings import Settings, SettingsInvalid, load_settings
from storage import schema
from tasks.cli.output import err, print_pairs
from tasks.cli.services import metrics_ports, running_services, running_stack, wait_until_one_ends


def up(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the embedded servers; PATTERN_STORAGE_DATA_DIR by default.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
) -> None:
    """Run PostgreSQL, Valkey, a worker, beat and a relay until Ctrl-C. Other commands find them by themselves.

    With DATABASE_URL and REDIS_URL set, those servers are used and only worker, beat and relay are started.
    """
    # A service manager stops us with SIGTERM; both ways of stopping unwind the same block.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            settings = _servers(stack, data_dir)
            folder = settings.data_dir / "celery"
            ports = metrics_ports(settings, folder, "worker", "relay")
            services = stack.enter_context(
                running_services(
                    settings,
                    folder,
                    ports,
                    worker=["--concurrency", str(concurrency), "--loglevel", settings.log_level],
                    beat=["--schedule", str(folder / "beat-schedule"), "--loglevel", settings.log_level],
                    relay=[],
                )
            )
            about = {
                "folder": settings.data_dir,
                "worker": f"{concurrency} processes, log in {folder / 'worker.log'}",
                "beat": f"log in {folder / 'beat.log'}",
                "relay": f"log in {folder / 'relay.log'}",
                **{
                    f"{name}'s metrics": f"http://{settings.metrics_address}:{port}/metrics"
                    for name, port in ports.items()
                },
                "next": "pattern-storage insert | query | doctor, in another terminal",
            }
            print_pairs(about, title="pattern-storage is up; Ctrl-C stops it")
            wait_until_one_ends(services)
        except KeyboardInterrupt:
            err.print("stopping: running jobs finish first")
    err.print("stopped")


def _servers(stack: ExitStack, data_dir: Path | None) -> Settings:
    """Return settings of the servers to use, started here unless the environment names them."""
    # An override, so that the state file of a running stack is not taken for the environment.
    settings = load_settings(data_dir=data_dir)
    given = Settings(data_dir=settings.data_dir)
    if not (given.database_url or given.redis_url or given.broker_url or given.result_backend_url):
        _, settings = stack.enter_context(running_stack(settings.data_dir))
        return settings
    if given.database_url is None or (given.redis_url or given.broker_url) is None:
        missing = "DATABASE_URL" if given.database_url is None else "REDIS_URL"
        raise SettingsInvalid(f"{missing} is not set; set both DATABASE_URL and REDIS_URL, or neither")
    schema.upgrade(settings.database)
    return settings
