"""Housekeeping that beat schedules: small steps, safe to run twice or at the same time."""

from collections.abc import Callable
from functools import partial

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import attempts, dead_letters, import_runs, job_retries, ledger
from pattern_storage.tasks.celery_app import app
from pattern_storage.tasks.relay import Relay
from pattern_storage.tasks.worker import runtime

#: Rows deleted in one transaction: short enough not to disturb others.
STEP = 1_000


@app.task(name="maintenance.purge_ledger", ignore_result=True)
def purge_ledger() -> int:
    """Forget jobs that finished longer ago than the ledger's retention; return how many."""
    days = environment_settings().ledger_retention_days
    # First: a dead letter is hidden as long as the ledger has its job.
    runtime.on_connection(dead_letters.purge_finished, days=days)
    runtime.on_connection(attempts.purge, days=days)
    _in_steps(partial(runtime.on_connection, job_retries.purge, days=days))
    return _in_steps(partial(runtime.on_connection, ledger.purge, days=days))


@app.task(name="maintenance.purge_imports", ignore_result=True)
def purge_imports() -> int:
    """Forget runs of imports that ended longer ago than their retention; return how many."""
    return _in_steps(partial(runtime.on_connection, import_runs.purge, days=environment_settings().import_history_days))


def _in_steps(purge: Callable[..., int]) -> int:
    """Call `purge` until there is nothing left; return the number of all rows."""
    purged = 0
    while step := purge(step=STEP):
        purged += step
    return purged


@app.task(name="maintenance.sweep_outbox", ignore_result=True)
def sweep_outbox() -> int:
    """Publish the jobs that are due in the outbox, as a relay does at once; return their number.

    Without any relay the outbox works too, up to a minute late. Before that, rows of the ledger that workers of an
    older release have written get their description; there are some only while releases change.
    """
    for table in (ledger, dead_letters):
        _in_steps(partial(runtime.on_connection, table.describe))
    return Relay(environment_settings()).sweep()
