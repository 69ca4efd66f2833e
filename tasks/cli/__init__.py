"""The command line `pattern-storage`.

Exit codes: 0 done, 1 failed, 2 bad input (also a setting or file that is missing or wrong), 3 a server is unreachable
or no result came in time, 130 Ctrl-C.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

import typer

from pattern_storage.storage import __version__
from pattern_storage.tasks.cli import (
    dead_letters,
    doctor,
    harvest,
    health,
    import_file,
    imports,
    jobs,
    operations,
    queues,
    schema,
    up,
)
from pattern_storage.tasks.cli.audit import audit
from pattern_storage.tasks.cli.demo import demo
from pattern_storage.tasks.cli.env import env
from pattern_storage.tasks.cli.exits import InputInvalid, explain_and_exit
from pattern_storage.tasks.cli.interrupts import keep_interrupts
from pattern_storage.tasks.cli.output import flush_output
from pattern_storage.tasks.cli.relay import relay

cli = typer.Typer(
    name="pattern-storage",
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: tuple[Callable[..., None], ...] = (
    up.up, env, relay, demo, schema.migrate, *operations.COMMANDS, harvest.harvest, doctor.doctor, health.health, audit,
)  # fmt: skip
for command in COMMANDS:
    cli.command()(command)
cli.command("import")(import_file.import_source)
cli.add_typer(jobs.cli, name="jobs", no_args_is_help=True)
cli.add_typer(queues.cli, name="queues", no_args_is_help=True)
cli.add_typer(imports.cli, name="imports", no_args_is_help=True)
cli.add_typer(dead_letters.cli, name="dead-letters", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pattern-storage {__version__}")  # noqa: T201
        raise typer.Exit


@cli.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Store, change, find and remove code patterns through Celery jobs."""


def _check_text(command: Sequence[str]) -> None:
    """Raise InputInvalid for an argument that is not UTF-8: Python has lone surrogates for its bytes."""
    for before, argument in pairwise(command):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            name, equals, _ = argument[: error.start].partition("=")
            name = name if equals else f"the argument after '{before}'"
            byte = ord(argument[error.start]) & 0xFF
            raise InputInvalid(f"{name} should be UTF-8 text, got the byte 0x{byte:x}") from None


def main() -> None:
    """Run the command line; `pattern_storage/__main__.py` calls it."""
    # psycopg's pool and the client report what failed; a command says once, at its end, what is wrong.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    logging.getLogger("pattern_storage.tasks.client").setLevel(logging.ERROR)
    try:
        _check_text(sys.argv)
        with keep_interrupts(), flush_output():
            # Not standalone: wrong arguments are an error among others, and printed as such.
            sys.exit(cli(standalone_mode=False) or 0)
    except Exception as error:
        sys.exit(explain_and_exit(error))
