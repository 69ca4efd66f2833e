"""Commands `jobs list`, `show`, `cancel` and `retry`: jobs of all states, also those that wait."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated
from uuid import UUID

import typer

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import job_labels, jobs, open_jobs
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.interrupts import explain_interrupt
from pattern_storage.tasks.cli.job_output import (
    job_row,
    message_row,
    plain_job,
    plain_message,
)
from pattern_storage.tasks.cli.job_show import show
from pattern_storage.tasks.cli.operator import act_on, confirm, query, read_filter, report_count
from pattern_storage.tasks.cli.options import (
    DryRun,
    ErrorTypeOption,
    Ids,
    Json,
    Name,
    OperationOption,
    Queue,
    Since,
    State,
    Until,
    Yes,
)
from pattern_storage.tasks.cli.output import err, plural, print_json
from pattern_storage.tasks.cli.tables import print_list
from pattern_storage.tasks.operate.job_actions import CANCELLABLE, RETRIABLE
from pattern_storage.tasks.operate.message_search import count_waiting, list_waiting
from pattern_storage.vocabulary import ListedState

cli = typer.Typer(help="Jobs of all states: find, cancel and retry them.")


@cli.command("list")
def list_jobs(
    state: State = None,
    operation: OperationOption = None,
    error_type: ErrorTypeOption = None,
    name: Name = None,
    queue: Queue = None,
    since: Since = None,
    until: Until = None,
    sort: Annotated[str, typer.Option(help="time, or duration for the slowest first.")] = "time",
    ascending: Annotated[bool, typer.Option("--ascending", help="The oldest or quickest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=jobs.MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on after the page that printed this cursor.")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first; with --state QUEUED those that wait in the queues, the oldest first."""
    settings = load_settings()
    wanted = read_filter(state, operation, error_type, name, queue, since, until)
    after = Cursor.parse(cursor, sort) if cursor else None
    listing = partial(jobs.list_jobs, wanted=wanted, sort=sort, descending=not ascending, after=after, limit=limit)
    page = query(listing, settings)
    waiting = list_waiting(settings, wanted, limit) if wanted.states == (ListedState.QUEUED,) and not after else []
    if as_json:
        print_json({
            "jobs": [plain_job(job) for job in page.jobs],
            "waiting": [plain_message(message) for message in waiting],
            "next_cursor": page.next and str(page.next),
        })  # fmt: skip
        return
    labels = query(partial(job_labels.find, ids=[job.correlation_id for job in page.jobs]), settings)
    rows = [*map(message_row, waiting), *(job_row(job, labels.get(job.correlation_id)) for job in page.jobs)]
    others = "" if wanted.states else "; those that wait in queues: --state QUEUED"
    columns = ("correlation id", "state", "since (UTC)", "job", "error type", "error")
    print_list(columns, rows, title=plural(len(rows), "job") + others)
    if page.next:
        searched = f"Of the jobs that have not ended {open_jobs.SEARCHED:,} of each kind were searched; to go on"
        err.print(f"{'There are more' if page.is_full else searched}: add --cursor {page.next}")
    if len(waiting) == limit:
        err.print("More may wait: raise --limit; 'pattern-storage queues list' counts them")


cli.command()(show)


@cli.command()
def cancel(
    ids: Ids = None,
    state: State = None,
    operation: OperationOption = None,
    name: Name = None,
    queue: Queue = None,
    since: Since = None,
    until: Until = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Cancel jobs that have not ended, for good: those named, or all that match the options.

    An id that nothing is known of is blocked: a job that comes under it later never commits. Exits with 1 if a job that
    is named has ended.
    """
    settings = load_settings()
    wanted = read_filter(state, operation, None, name, queue, since, until)
    _check_selection(ids, wanted)
    wanted = _narrowed(wanted, CANCELLABLE, "cancelled")
    operator = act_on(settings)
    blocked, ended = list[UUID](), list[UUID]()
    if ids:
        named = operator.rehearse_cancel(ids) if dry_run else operator.cancel_named(ids)
        cancelled, without_job = asyncio.run(named)
        count, blocked = len(cancelled), [job for job in ids if job in without_job]
        ended = [job for job in ids if job not in cancelled | without_job]
    else:
        count = query(partial(jobs.count_jobs, wanted=wanted), settings) + count_waiting(settings, wanted)
        if count and not dry_run:
            confirm(f"{_amount(count)} would be cancelled.", yes=yes)
            count = asyncio.run(operator.cancel_matching(wanted))
    would, never = ("would be ", "would never commit") if dry_run else ("", "never commits")
    for job in blocked if not as_json else ():
        err.print(f"{job} is not known, and {would}blocked from now on: a job that comes under this id {never}")
    for job in ended if not as_json else ():
        err.print(f"{job} {'would not be' if dry_run else 'is not'} cancelled: it has ended")
    more = {"blocked": list(map(str, blocked)), "ended": list(map(str, ended))}
    report_count("cancelled", count, dry_run=dry_run, as_json=as_json, **more)
    if ended:
        raise typer.Exit(Exit.FAILED)


@cli.command()
def retry(
    ids: Ids = None,
    state: State = None,
    operation: OperationOption = None,
    error_type: ErrorTypeOption = None,
    name: Name = None,
    queue: Queue = None,
    since: Since = None,
    until: Until = None,
    again: Annotated[bool, typer.Option("--again", help="Also a job that was sent again before.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send jobs that failed or were cancelled again, each under a new id. For dead letters: dead-letters replay."""
    settings = load_settings()
    wanted = read_filter(state, operation, error_type, name, queue, since, until)
    _check_selection(ids, wanted)
    wanted = _narrowed(wanted, RETRIABLE, "retried")
    operator = act_on(settings)
    refused: dict[UUID, str] = {}
    if ids and not dry_run:
        with explain_interrupt():
            done = asyncio.run(operator.retry(ids, again=again))
        count, refused = len(done.sent), done.refused
        for old, new in done.sent if not as_json else ():
            print(f"{old} {new.correlation_id}")  # noqa: T201
    else:
        counting = partial(jobs.count_jobs, wanted=wanted, can_be_retried=not again)
        count = len(ids) if ids else query(counting, settings)
        if count and not dry_run:
            confirm(f"{_amount(count)} would be sent again.", yes=yes)
            with explain_interrupt():
                count, refused = asyncio.run(operator.retry_matching(wanted, again=again))
    for job, reason in refused.items() if not as_json else ():
        err.print(f"{job} is not sent again: {reason}")
    reasons = {str(job): reason for job, reason in refused.items()}
    report_count("sent again", count, dry_run=dry_run, as_json=as_json, refused=reasons)
    if refused and ids:
        raise typer.Exit(Exit.FAILED)


def _check_selection(ids: Sequence[UUID] | None, wanted: JobFilter) -> None:
    if bool(ids) == (not wanted.is_empty):
        raise InputInvalid("say which jobs: correlation ids, or options such as --state, --operation and --since")


def _narrowed(wanted: JobFilter, states: tuple[ListedState, ...], done: str) -> JobFilter:
    """Return the filter with the states that can be acted on. Raises InputInvalid if none of its own is one."""
    among = wanted.among(*states)
    if not among:
        raise InputInvalid(f"--state is {','.join(wanted.states)}; {', '.join(states)} can be {done}")
    return replace(wanted, states=among)


def _amount(count: int) -> str:
    return plural(count, "job") if count < jobs.COUNT_LIMIT else f"{count:,} jobs or more"
