"""Housekeeping that beat schedules: small steps, safe to run twice or at the same time."""

from config.settings import environment_settings
from storage import attempts, ledger
from tasks import runtime
from tasks.app import app

#: Ledger rows deleted in one transaction: short enough to disturb nobody.
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
