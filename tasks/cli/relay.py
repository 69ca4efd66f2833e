"""The command `relay`: publishes jobs from the outbox."""

import signal

from pattern_storage.config.settings import load_settings
from pattern_storage.tasks.database import check_database
from pattern_storage.tasks.observability import logs, metrics, traces
from pattern_storage.tasks.redis_server import check_redis
from pattern_storage.tasks.relay import Relay, silence_client


def relay() -> None:
    """Publish jobs that applications wrote into the outbox, until Ctrl-C or SIGTERM. Any number may run."""
    settings = load_settings()
    logs.set_up(settings.log_format, settings.log_level, "[%(asctime)s: %(levelname)s] %(message)s")
    metrics.open_endpoint(settings)
    traces.set_up(settings)
    check_database(settings)
    check_redis(settings)
    silence_client()
    running = Relay(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.stop())
    running.run()
