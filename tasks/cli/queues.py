"""Commands `queues list`, `pause`, `resume` and `purge`."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import figures, pauses
from pattern_storage.storage.pauses import Pausable, Pause
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.cli.operator import act_on, confirm, query, report_change, report_count
from pattern_storage.tasks.cli.options import DryRun, Json, Yes
from pattern_storage.tasks.cli.output import plural, print_json
from pattern_storage.tasks.cli.progress import counting
from pattern_storage.tasks.cli.tables import print_list
from pattern_storage.tasks.database import run_sync
from pattern_storage.tasks.operate import queues as broker_queues
from pattern_storage.tasks.operate.queue_actions import check_queue
from pattern_storage.tasks.queue_names import LATELY, LONG

cli = typer.Typer(help="Queues: what waits, and pause, resume or empty one.")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="storage, batch, imports, or a name that jobs were given.")]


@cli.command("list")
def list_queues(as_json: Json = False) -> None:
    """List the queues: how much waits, since when, and whether they are paused."""
    settings = load_settings()
    paused: dict[str, Pause] = {}
    others: set[str] = set()
    if settings.database_url is not None:
        paused, done = query(_known, settings)
        others = {*paused, *done}
    depths = broker_queues.depths(settings, others, seconds=LONG)
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for depth in depths:
        pause = paused.get(depth.name)
        age = None if depth.oldest_at is None else max(round((now - depth.oldest_at).total_seconds(), 1), 0.0)
        rows.append({
            "queue": depth.name, "waiting": depth.waiting, "claimed": depth.claimed, "unacked": depth.unacked,
            "oldest_seconds": age, "paused_at": pause and pause.paused_at.isoformat(),
            "paused_by": pause and pause.paused_by,
        })  # fmt: skip
    if as_json:
        print_json(rows)
        return
    cells = [
        (
            row["queue"], f"{row['waiting']:,}", row["unacked"],
            # RabbitMQ tells no times, and a message of another program may have none.
            f"{age:,.1f} s" if (age := row["oldest_seconds"]) is not None else "unknown" if row["waiting"] else None,
            f"by {row['paused_by']}" if row["paused_at"] else "no",
        )
        for row in rows
    ]  # fmt: skip
    print_list(("queue", "waiting", "in workers", "oldest waits", "paused"), cells)


async def _known(connection: Connection) -> tuple[dict[str, Pause], dict[str, float]]:
    """Return the queues that are paused, and those whose jobs ended lately: they are listed though they are empty."""
    return (
        await pauses.paused(connection, Pausable.QUEUE),
        await figures.queue_rates(connection, seconds=LATELY),
    )


@cli.command()
def pause(name: Name, as_json: Json = False) -> None:
    """Keep workers from taking jobs from a queue until it is resumed, also after restarts; running jobs go on."""
    report_change("paused", run_sync(act_on().pause_queue(name)), as_json=as_json, queue=name)


@cli.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Let workers take jobs from a queue again."""
    report_change("resumed", run_sync(act_on().resume_queue(name)), as_json=as_json, queue=name)


@cli.command()
def purge(name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Empty a queue: every job that waits in it is cancelled for good."""
    settings = load_settings()
    operator = act_on(settings)
    with broker_queues.redis_queues(settings) as queues:
        count = queues.waiting(check_queue(settings, name), limit=1).total
    if count and not dry_run:
        confirm(f"{plural(count, 'job')} of the queue {name} would be cancelled.", yes=yes)
        with counting("purging", "jobs", count) as show:
            count = asyncio.run(operator.purge_queue(name, show))
    report_count("purged", count, dry_run=dry_run, as_json=as_json, queue=name)
