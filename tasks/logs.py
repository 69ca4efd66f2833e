"""The correlation id in every line that a worker logs: Celery's, psycopg's and ours."""

import logging
from typing import Any

from celery import signals

from storage.logs import CorrelationFilter

_PLACE = "[%(asctime)s: %(levelname)s/%(processName)s]"
LOG_FORMAT = f"{_PLACE} [%(correlation_id)s] %(message)s"


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def complete_records(logger: logging.Logger, **_: Any) -> None:
    """Have every handler of Celery's put the correlation id on its records, which the format asks for."""
    for handler in logger.handlers:
        handler.addFilter(CorrelationFilter())
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
