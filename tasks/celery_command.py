"""Checks that run before one of Celery's own commands: extras that it needs, and Flower's options.

Celery adds the hidden option `OPTION` to all its commands and calls `prepare` when it has read the command line.
"""

from typing import Any

import click

from pattern_storage.extras import ExtraMissing, require
from pattern_storage.tasks.flower.command import CommandUnusable
from pattern_storage.tasks.flower.start import configure

#: The extra of each command that needs one.
EXTRAS = {"worker": "worker", "beat": "worker", "flower": "flower"}


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
