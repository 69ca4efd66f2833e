"""Command `audit`: what operators did."""

from functools import partial
from typing import Annotated

import typer

from pattern_storage.storage import audit as entries
from pattern_storage.storage.audit import AuditEntry
from pattern_storage.tasks.cli.operator import query
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, plural, print_json
from pattern_storage.tasks.cli.tables import print_list


def audit(
    actor: Annotated[str | None, typer.Option(help="Only actions of this operator.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as 'send again' or 'pause queue'.")] = None,
    before: Annotated[int | None, typer.Option(help="Only entries before this number.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: Json = False,
) -> None:
    """Show what operators did from the command line and in Flower, the newest first."""
    found = query(partial(entries.entries, actor=actor, action=action, before=before, limit=limit))
    if as_json:
        print_json([vars(entry) | {"at": entry.at.isoformat()} for entry in found])
        return
    rows = [(entry.at, entry.actor, entry.count, f"{entry.action} {_about(entry)}") for entry in found]
    print_list(("time (UTC)", "who", "jobs", "what"), rows, title=plural(len(found), "action"))
    if len(found) == limit:
        err.print(f"There may be more: add --before {found[-1].id}")


def _about(entry: AuditEntry) -> str:
    about = dict(entry.filter)
    jobs = about.pop("jobs", None)
    texts = [f"{name} {value}" for name, value in about.items()]
    if jobs:
        first = next(iter(jobs))
        texts.append(str(first) if len(jobs) == 1 else f"{first} and {len(jobs) - 1:,} more")
    return ", ".join(texts)
