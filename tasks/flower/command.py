"""Command `celery flower`: Flower's own, or a sentence that names the extra which is missing.

It is an entry point, because Celery looks for a command before it loads the application. Flower has an entry point of
the same name; whichever of the two Celery takes, it is the same command. Every `celery` command line of the environment
imports this module, so it imports nothing that takes time.
"""

import click

from pattern_storage.extras import ExtraMissing
from pattern_storage.tasks.celery_command import CommandUnusable

__all__ = ["flower"]


@click.pass_context
def _refuse(context: click.Context) -> None:
    """Raise CommandUnusable for our application; for another's, Celery's error of an unknown command."""
    application = getattr(context.obj, "app", None)
    if getattr(application, "main", None) != "pattern-storage":
        raise click.UsageError("No such command 'flower'.", context.parent)
    raise CommandUnusable(str(ExtraMissing("celery -A pattern_storage flower", "flower")))


try:
    from flower.command import flower
except ModuleNotFoundError:
    flower = click.Command(
        "flower", callback=_refuse, hidden=True, add_help_option=False,
        params=[click.Argument(["arguments"], nargs=-1, expose_value=False)],
        context_settings={"ignore_unknown_options": True},
    )  # fmt: skip
