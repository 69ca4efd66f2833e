"""The command that brings the database schema up to date."""

from typing import Annotated

import typer

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import roles, schema
from pattern_storage.tasks.cli.exits import InputInvalid
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import out, print_json


def migrate(
    down_to: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="Go back to this revision; 'base' removes all tables."),
    ] = None,
    grant_to: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Then grant this database role what services need.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring the database schema to the version this program needs. Safe to run from several hosts at once."""
    if down_to is not None and grant_to is not None:
        raise InputInvalid("--grant-to is given with --down-to; a schema that goes back gets no new rights")
    database_url = load_settings().database
    before = schema.current(database_url)
    if down_to is None:
        schema.upgrade(database_url)
    else:
        schema.downgrade(database_url, down_to)
    after = schema.current(database_url)
    if not as_json:
        is_new = before != after or down_to is not None
        out.print(
            f"schema: {before or 'empty'} -> {after or 'empty'}" if is_new else f"schema: {after}, already up to date"
        )
    if grant_to is not None:
        roles.grant(database_url, grant_to)
        if not as_json:
            out.print(f"rights: {grant_to} may read and write the tables")
    if as_json:
        print_json({"before": before, "after": after, "granted_to": grant_to})
