"""The command that brings the database schema up to date."""

from typing import Annotated

import typer

from config.settings import load_settings
from storage import schema
from tasks.cli.output import out


def migrate(
    down_to: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="Go back to this revision; 'base' removes all tables."),
    ] = None,
) -> None:
    """Bring the database schema to the version this program needs. Safe to run from several hosts at once."""
    database_url = load_settings().database
    before = schema.current(database_url)
    if down_to is None:
        schema.upgrade(database_url)
    else:
        schema.downgrade(database_url, down_to)
    out.print(f"schema: {before or 'empty'} -> {schema.current(database_url) or 'empty'}")
