"""Checks that run before one of Celery's own commands: extras that it needs, and Flower's options.

Celery adds the hidden option `OPTION` to all its commands; click calls `prepare` when it has parsed the command line.
"""

from typing import Any

import click
from kombu.utils.imports import symbol_by_name

from pattern_storage.extras import ExtraMissing, require

#: The extras whose modules each command needs; the first includes the others.
EXTRAS = {"worker": ("worker",), "beat": ("worker",), "flower": ("flower", "worker")}


class CommandUnusable(click.ClickException):
    """A command lacks an extra: Celery prints the text and ends with code 2, without a traceback."""

    exit_code = 2


def prepare(context: click.Context, _: click.Parameter, value: Any) -> Any:
    """Check a command's extra, then configure Flower. Raises CommandUnusable or SettingsInvalid."""
    name = context.command.name or ""
    if name in EXTRAS and not context.resilient_parsing:
        _require(name)
        if name == "flower":
            # By name, because of a circle: Flower's pages use the imports, which use the application, which uses this.
            symbol_by_name("pattern_storage.tasks.flower.start:configure")(context.obj.app)
    return value


#: A flag that users need not know: it only exists for its callback.
OPTION = click.Option(["--pattern-storage"], hidden=True, expose_value=False, is_flag=True, callback=prepare)


def _require(name: str) -> None:
    what = f"celery -A pattern_storage {name}"
    try:
        for extra in EXTRAS[name]:
            require(what, extra)
    except ExtraMissing:
        raise CommandUnusable(str(ExtraMissing(what, EXTRAS[name][0]))) from None
