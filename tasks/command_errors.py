"""Error of a command of Celery's that cannot be used; imported by every `celery` command line, so it costs nothing."""

import click


class CommandUnusable(click.ClickException):
    """A command's extra is not installed: Celery prints the text and ends with code 2, without a traceback."""

    exit_code = 2
