"""The command that publishes jobs from the outbox."""

import logging
import signal

from config.settings import load_settings
from tasks.relay import Relay


def relay() -> None:
    """Publish jobs that applications wrote into the outbox, until Ctrl-C or SIGTERM. Any number may run."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="[%(asctime)s: %(levelname)s] %(message)s")
    running = Relay(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.stop())
    running.run()
