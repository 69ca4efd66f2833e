"""Error of a `celery` command that cannot be used, in a module that is cheap to import for every command line."""

import click


class CommandUnusable(click.ClickException):
    """A command cannot be used, for lack of an extra: Celery prints the text and ends with code 2, no traceback."""

    exit_code = 2
