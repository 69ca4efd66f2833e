"""The command `up`: a whole system on this machine, servers, worker, beat, relay and Flower."""

import shlex
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.config.variables import PREFIX
from pattern_storage.embedded import EmbeddedStack, default_data_dir
from pattern_storage.extras import require
from pattern_storage.storage import schema
from pattern_storage.tasks.cli import flower
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.output import err, out
from pattern_storage.tasks.cli.services import (
    held_folder,
    make_folder,
    metrics_ports,
    running_services,
    running_stack,
    supervise,
)
from pattern_storage.tasks.cli.tables import print_pairs
from pattern_storage.tasks.imports.plan.imports_file import load_entries

#: Services that have metrics.
MEASURED = frozenset({"worker", "imports", "relay"})
#: Arguments of the worker for short jobs and of the one for imports, where an imports file is set.
SHORT = ("-Q", "storage,batch")
IMPORTS = ("-Q", "imports", "--concurrency", "1", "-n", "imports@%h")


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the servers; PATTERN_STORAGE_DATA_DIR by default. Other terminals find another folder by"
            " that variable only."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    with_flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Show the jobs in a browser.")] = True,
    flower_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Flower's port; by default 5555, or a free one.")
    ] = None,
) -> None:
    """Run PostgreSQL, Valkey, a worker, beat, a relay and Flower until Ctrl-C. Other commands find them by themselves.

    With DATABASE_URL and REDIS_URL set, those servers are used and only the others are started. What ends by itself is
    started again; if one that is needed ends again and again, all is stopped, with exit code 3 and the end of its log.
    """
    if with_flower:
        require("Flower (--no-flower leaves it out)", "flower")
    # A service manager stops us with SIGTERM; both ways of stopping unwind the same block.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 130  # of Ctrl-C or SIGTERM before all is up; afterwards these are how it ends
    with ExitStack() as stack:
        try:
            embedded, settings = _servers(stack, data_dir)
            folder = settings.data_dir / "celery"
            commands: dict[str, list[str]] = {
                "worker": ["--concurrency", str(concurrency), "--loglevel", settings.log_level],
                "beat": ["--schedule", str(folder / "beat-schedule"), "--loglevel", settings.log_level],
                "relay": [],
            }
            if settings.imports_file:
                # A worker of their own: an import may take hours, and single operations wait for nothing.
                commands["worker"] += SHORT
                commands["imports"] = [*IMPORTS, "--loglevel", settings.log_level]
            login = partial(flower.with_login, settings, make_folder(folder), flower_port)
            if with_flower:
                commands["flower"] = []
                settings = login()
            ports = metrics_ports(settings, folder, *(name for name in commands if name in MEASURED))
            services = stack.enter_context(running_services(settings, folder, ports, login, **commands))
            settings = services.settings
            about = {
                "folder": settings.data_dir,
                "worker": f"concurrency {concurrency}, log in {folder / 'worker.log'}",
                **{name: f"log in {folder / f'{name}.log'}" for name in commands if name != "worker"},
                **{
                    f"metrics of {name}": f"http://{settings.metrics_address}:{port}/metrics"
                    for name, port in ports.items()
                },
                "next": "pattern-storage insert | query | doctor, in another terminal",
            }
            if with_flower:
                address = flower.address(settings, login=True)
                if embedded:
                    embedded.update_state(flower_url=address)
                _print_to_copy("Flower, with its login:", address)
            if embedded and settings.data_dir != default_data_dir():
                _print_to_copy(
                    "Other terminals find it with:", f"export {PREFIX}DATA_DIR={shlex.quote(str(settings.data_dir))}"
                )
            print_pairs(about, title="pattern-storage is up; Ctrl-C stops it")
            code = Exit.DONE
            supervise(services, embedded)
        except KeyboardInterrupt:
            err.print("stopping: running jobs finish first")
    err.print("stopped")
    raise typer.Exit(code)


def _print_to_copy(label: str, text: str) -> None:
    """Print text to be clicked or copied: not in the table, and on a line of its own, which 80 columns hold."""
    out.print(Text.assemble(f"{label}\n", (text, "bold")), soft_wrap=True)


def _servers(stack: ExitStack, data_dir: Path | None) -> tuple[EmbeddedStack | None, Settings]:
    """Return settings of the servers to use, and the servers if the environment names none and they run here."""
    # An override, so that the state file of a running stack is not taken for the environment.
    settings = load_settings(data_dir=data_dir)
    if settings.imports_file is not None:
        load_entries(settings.imports_file)
    given = Settings(data_dir=settings.data_dir)
    if not given.has_url:
        return stack.enter_context(running_stack(settings.data_dir))
    # Where only some are set, these say so, before anything is locked or connected.
    _ = given.database, given.broker, given.result_backend
    # Two in one folder would share beat's file, the logs and the ports, whatever servers they use.
    stack.enter_context(held_folder(settings.data_dir))
    schema.upgrade(settings.database)
    return None, settings
