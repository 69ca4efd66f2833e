"""Retry policy: the delay before the next attempt of a job that failed for a transient reason."""

from celery.utils.time import get_exponential_backoff_interval

from pattern_storage.config.settings import Settings

#: Seconds that a server may ask for: it may have sent a wrong date.
MAX_ASKED = 3_600.0


def retry_delay(settings: Settings, retries: int, asked: float = 0.0) -> float:
    """Return the seconds until the next attempt of a job that was retried so often: a random part of the backoff.

    Full jitter: jobs that failed together, as in an outage, do not come back together. The delay is at least the
    broker's least delay, and at least the `asked` seconds of a server, MAX_ASKED at most.
    """
    backoff = get_exponential_backoff_interval(
        settings.retry_backoff, min(retries, 30), settings.retry_backoff_max, full_jitter=True
    )
    return max(backoff, settings.broker_kind.least_delay, min(asked, MAX_ASKED))
