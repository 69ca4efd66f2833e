"""Command `jobs show`: all that is known of one job, wherever it is."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Annotated
from uuid import UUID

import typer

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import job_labels
from pattern_storage.storage.job_details import find_job
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.job_output import (
    plain_details,
    plain_message_details,
    print_details,
    print_message_details,
)
from pattern_storage.tasks.cli.operator import query
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.cli.tables import print_pairs
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.operate.message_search import find_messages
from pattern_storage.tasks.operate.stored_result import find_stored_result
from pattern_storage.vocabulary import FINAL_STATES, JobState


def show(correlation_id: Annotated[UUID, typer.Argument(metavar="CORRELATION_ID")], as_json: Json = False) -> None:
    """Show one job: its timeline, the job that it repeats, and those that repeat it."""
    settings = load_settings()
    found = query(partial(find_job, correlation_id=correlation_id), settings)
    stored = None
    with suppress(ServiceUnavailable):
        stored = find_stored_result(settings, correlation_id)
    if found is None:
        _show_unlisted(settings, correlation_id, as_json)
        return
    if stored is not None:
        found = replace(found, events=sorted([*found.events, *stored.events], key=attrgetter("at")))
    if as_json:
        print_json(plain_details(found))
    else:
        label = query(partial(job_labels.find, ids=[correlation_id]), settings).get(correlation_id)
        print_details(found, label)


def _show_unlisted(settings: Settings, correlation_id: UUID, as_json: bool) -> None:
    """Show a job that is in none of our tables: it waits in the broker, was a query, or is not known at all."""
    with PatternStorageClient() as client:
        status = client.get(correlation_id).status()
    if status not in FINAL_STATES:
        message = None
        with suppress(ServiceUnavailable):
            message = find_messages(settings, [correlation_id]).get(correlation_id)
        if message is not None:
            print_json(plain_message_details(message)) if as_json else print_message_details(message)
            return
    if as_json:
        print_json({"correlation_id": str(correlation_id), "state": status, "timeline": []})
    elif status != JobState.UNKNOWN:
        print_pairs({"state": status}, title=f"job {correlation_id}")
    else:
        err.print(f"No job is known under {correlation_id}, or it has been forgotten.")
    if status == JobState.UNKNOWN:
        raise typer.Exit(Exit.FAILED)
