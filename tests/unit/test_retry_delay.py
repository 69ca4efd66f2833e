"""How long a job waits for its next attempt: anything up to a bound that doubles, so that no two need wait the same."""

from collections import Counter

import pytest

from pattern_storage.config.broker import REDIS as REDIS_KIND
from pattern_storage.config.settings import load_settings
from pattern_storage.tasks.worker.retry import MAX_ASKED, retry_delay

REDIS, RABBITMQ = "redis://127.0.0.1:1/0", "amqp://127.0.0.1:1"
#: So many that a part of the range that is never drawn is no accident.
DRAWS = 3_000


@pytest.mark.parametrize(("retries", "bound"), [(0, 2), (1, 4), (3, 16), (4, 32), (5, 60), (30, 60), (10_000, 60)])
def test_full_jitter_up_to_a_bound(retries: int, bound: int) -> None:
    settings = load_settings(broker_url=REDIS, retry_backoff=2, retry_backoff_max=60)
    drawn = Counter(retry_delay(settings, retries) for _ in range(DRAWS))
    assert set(drawn) == {REDIS_KIND.least_delay, *map(float, range(1, bound + 1))}
    # No value is preferred: the commonest is not even three times as frequent as it should be.
    assert max(drawn.values()) < 3 * DRAWS / (bound + 1)


def test_as_long_as_a_server_asks_within_reason() -> None:
    """Longer than any other limit, too; but a wrong date must not put a job off for ever."""
    settings = load_settings(broker_url=REDIS, retry_backoff=2, retry_backoff_max=60)
    assert retry_delay(settings, 0, 600) == 600
    assert retry_delay(settings, 0, 1e9) == MAX_ASKED


def test_never_at_once_and_on_rabbitmq_by_whole_seconds() -> None:
    at_once = load_settings(broker_url=REDIS, retry_backoff=0)
    assert {retry_delay(at_once, retries) for retries in range(9)} == {REDIS_KIND.least_delay}
    on_rabbitmq = load_settings(broker_url=RABBITMQ, retry_backoff=2)
    drawn = {retry_delay(on_rabbitmq, 0) for _ in range(DRAWS)}
    assert drawn == {1, 2}
