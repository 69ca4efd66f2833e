"""The correlation id in every log record, without passing it to every function."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_correlation_id: ContextVar[str] = ContextVar("correlation_id", default="-")


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Give every record logged inside this block, in this task or thread, the correlation id."""
    token = _correlation_id.set(correlation_id)
    try:
        yield
    finally:
        _correlation_id.reset(token)


class CorrelationFilter(logging.Filter):
    """Puts `correlation_id` on each record; '-' outside of any operation. Add it to a handler or a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record and let it pass."""
        if not hasattr(record, "correlation_id"):
            record.correlation_id = _correlation_id.get()
        return True


def get_logger(name: str) -> logging.Logger:
    """Return the module's logger, its records completed by `CorrelationFilter`."""
    logger = logging.getLogger(name)
    if not any(isinstance(present, CorrelationFilter) for present in logger.filters):
        logger.addFilter(CorrelationFilter())
    return logger
