"""Checks that run before one of Celery's own commands: extras that it needs, and Flower's options.

Celery adds the hidden option `OPTION` to all its commands and calls `prepare` when it has read the command line.
"""

import sys
from typing import Any

import click

from pattern_storage.extras import ExtraMissing, require
from pattern_storage.tasks.flower.start import configure

#: The extra of each command that needs one.
EXTRAS = {"worker": "worker", "beat": "worker", "flower": "flower"}


class CommandUnusable(click.ClickException):
    """A command's extra is not installed: Celery prints the text and ends with code 2, without a traceback."""

    exit_code = 2


def prepare(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Check a command's extra, then configure Flower. Raises CommandUnusable or SettingsInvalid."""
    name = context.command.name or ""
    if name in EXTRAS and not context.resilient_parsing:
        _require(name)
    return configure(context, parameter, value)


#: There is nothing to type.
OPTION = click.Option(["--pattern-storage"], hidden=True, expose_value=False, is_flag=True, callback=prepare)


def _require(name: str) -> None:
    try:
        require(f"celery -A pattern_storage {name}", EXTRAS[name])
    except ExtraMissing as error:
        raise CommandUnusable(str(error)) from None


def add_flower_command() -> None:
    """Have `celery flower` say which extra brings it: without Flower, Celery's command line knows no such command."""
    command_line = sys.modules.get("celery.bin.celery")
    if command_line is not None and "flower" not in command_line.celery.commands:
        command = click.Command("flower", callback=lambda: _require("flower"), hidden=True, add_help_option=False)
        command.context_settings = {"ignore_unknown_options": True, "allow_extra_args": True}
        command_line.celery.add_command(command)
