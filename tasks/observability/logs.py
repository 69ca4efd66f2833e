"""Log filters and formats: the correlation id in every line about one job, message bodies in none; text or JSON.

Lines about no single job have `-` in place of the id, and so has Celery's own line that a process was killed.
A message's body is never logged: template code belongs to the database alone.
"""

import logging
from typing import Any

from celery import signals
from celery.exceptions import ChordError

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage.explanation import one_line
from pattern_storage.storage.logs import CorrelationFilter
from pattern_storage.tasks.errors import StorageOperationFailed

_PLACE = "[%(asctime)s: %(levelname)s/%(processName)s]"
LOG_FORMAT = f"{_PLACE} [%(correlation_id)s] %(message)s"

#: Fields of a JSON line, beside `timestamp` (ISO 8601, UTC), `exc_info` where there is one, and the record's extras.
JSON_FIELDS = {"levelname": "level", "name": "logger", "processName": "process"}


class JobFilter(CorrelationFilter):
    """Adds the id of the job to Celery's own records about it, which are made outside of the job."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record and let it pass."""
        data = getattr(record, "data", None)
        if isinstance(data, dict) and "id" in data:
            record.correlation_id = data["id"]
        return super().filter(record)


class BodyFilter(logging.Filter):
    """Removes from Celery's lines about invalid messages the body and the headers, which have the arguments' `repr`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record and let it pass."""
        if "body" not in str(record.msg):
            return True
        match record.args:
            case (Exception() as error, str(body)):
                about = f"invalid message: {error}"
            case (Exception() as error, kind, encoding, _, str(body)):
                about = f"undecodable message ({type(error).__name__}, type {kind}, encoding {encoding})"
            case _:
                about, body = "unknown message", ""
        # Celery's text of a body ends with its size, as in "(123b)".
        size = body.rpartition("(")[2].rstrip("b)") or "?"
        record.msg, record.args = "Received and discarded an %s; its body (%s bytes) is not shown", (about, size)
        return True


class ChordFilter(logging.Filter):
    """Removes the traceback from Celery's line about a chord of which a part failed: the line names the part."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record and let it pass."""
        match record.args:
            case (_, ChordError() | StorageOperationFailed()):
                record.exc_info = None
        return True


logging.getLogger("celery.worker.consumer.consumer").addFilter(BodyFilter())
logging.getLogger("celery.backends.redis").addFilter(ChordFilter())


class LineFormatter(logging.Formatter):
    """Formats a record as one line, whatever a message's headers or an error have put into it; tracebacks are indented.

    So a line that begins like ours is ours: with a line break in `shadow`, in an id or in the text of an exception
    anybody could forge one.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # Python's name for it
        """Return the line, with line breaks and control characters escaped."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback, each of its lines indented."""
        return self.formatStack(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Return the stack, each of its lines indented."""
        return "\n".join(f"  {one_line(line)}" for line in stack_info.splitlines())


def formatter(log_format: str, text: str = LOG_FORMAT) -> logging.Formatter:
    """Return the formatter for the setting; `text` is the format of lines for people."""
    if log_format == "text":
        return LineFormatter(text)
    # Imported only here: the plain install does not have it.
    from pythonjsonlogger.core import RESERVED_ATTRS
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        [*JSON_FIELDS, "correlation_id", "message"],
        rename_fields=JSON_FIELDS,
        timestamp=True,
        # Celery adds a job's arguments and result to its records, template code and all.
        reserved_attrs=[*RESERVED_ATTRS, "data"],
    )


def set_up(log_format: str, level: str, text: str) -> None:
    """Log to standard error, in a process that is not Celery's."""
    handler = logging.StreamHandler()
    handler.addFilter(CorrelationFilter())
    handler.setFormatter(formatter(log_format, text))
    logging.basicConfig(level=level, handlers=[handler])


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def complete_records(logger: logging.Logger, **_: Any) -> None:
    """Add the filter of correlation ids, and our format, to each of Celery's handlers."""
    for handler in logger.handlers:
        handler.addFilter(JobFilter())
        handler.setFormatter(formatter(environment_settings().log_format))


@signals.celeryd_init.connect
def omit_banner(instance: Any, **_: Any) -> None:
    """Leave out Celery's banner where lines are to be JSON."""
    if environment_settings().log_format == "json":
        instance.quiet = True
