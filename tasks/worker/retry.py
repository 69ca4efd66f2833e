"""Retry policy: the delay before a job that failed in a way that may pass is tried again."""

from celery.utils.time import get_exponential_backoff_interval

from pattern_storage.config.settings import Settings


def retry_delay(settings: Settings, retries: int, asked: float = 0.0) -> float:
    """Return the seconds until the next attempt of a job that was retried so often: anything up to the bound.

    Full jitter: jobs that failed together, as in an outage, do not come back together. Never less than the broker's
    least delay, nor than what a server `asked` for; but a message that waits longer than half the visibility timeout
    could be delivered again meanwhile.
    """
    backoff = get_exponential_backoff_interval(
        settings.retry_backoff, min(retries, 30), settings.retry_backoff_max, full_jitter=True
    )
    return max(backoff, settings.broker_kind.least_delay, min(asked, settings.visibility_timeout / 2))
