"""Housekeeping that beat schedules: small steps, safe to run twice or at the same time."""

from config.settings import environment_settings
from storage import attempts, import_runs, ledger
from tasks import runtime
from tasks.app import app
from tasks.relay import Relay

#: Rows deleted in one transaction: short enough to disturb nobody.
STEP = 1_000


@app.task(name="maintenance.purge_ledger", ignore_result=True)
def purge_ledger() -> int:
    """Forget jobs that finished longer ago than the ledger's retention; return how many."""
    # First: such a letter is not shown while the ledger has the job.
    runtime.on_connection(attempts.clear_finished)
    days = environment_settings().ledger_retention_days
    purged = 0
    while step := runtime.on_connection(ledger.purge, days=days, step=STEP):
        purged += step
    return purged


@app.task(name="maintenance.purge_imports", ignore_result=True)
def purge_imports() -> int:
    """Forget runs of imports that ended longer ago than their retention; return how many."""
    days = environment_settings().import_history_days
    purged = 0
    while step := runtime.on_connection(import_runs.purge, days=days, step=STEP):
        purged += step
    return purged


@app.task(name="maintenance.sweep_outbox", ignore_result=True)
def sweep_outbox() -> int:
    """Publish what is due in the outbox, as a relay would within milliseconds; return how many jobs.

    Without any relay the outbox works too, up to a minute late.
    """
    return Relay(environment_settings()).sweep()
