"""Options and arguments that several commands have."""

from typing import Annotated
from uuid import UUID

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say what would be done.")]

Ids = Annotated[list[UUID] | None, typer.Argument(metavar="CORRELATION_ID", help="Only these jobs.")]
State = Annotated[
    str | None, typer.Option("--state", help="QUEUED, STARTED, RETRY, SUCCESS, FAILURE, DEAD, REVOKED; several: a,b.")
]
OperationOption = Annotated[
    str | None, typer.Option("--operation", help="insert, update, delete, batch_insert or import.")
]
ErrorTypeOption = Annotated[str | None, typer.Option("--error-type", help="Only those that failed in this way.")]
Name = Annotated[str | None, typer.Option("--name", help="Exact name of the pattern, or of the import.")]
Queue = Annotated[str | None, typer.Option("--queue", help="storage, batch, imports, or a name that jobs were given.")]
Since = Annotated[str | None, typer.Option("--since", help="ISO 8601, inclusive; UTC without a zone.")]
Until = Annotated[str | None, typer.Option("--until", help="ISO 8601, exclusive; UTC without a zone.")]
