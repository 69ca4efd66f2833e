"""Messages in the broker as operators see them: any application may have sent them, so any part may be missing."""

import json
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pattern_storage.config.celeryconfig import OPERATION_OF_TASK
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.delivery import readable
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.explanation import one_line
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.description import describe_call
from pattern_storage.tasks.imports.publisher import describe_run
from pattern_storage.vocabulary import IMPORT_OPERATION, ListedState

#: Characters of an id and of a task's name.
SHOWN = 200


@dataclass(frozen=True)
class WaitingMessage:
    """A message that waits in a queue, or that a worker has taken. `state` is QUEUED, STARTED or RETRY."""

    id: str
    task: str
    state: ListedState
    queue: str
    sent_at: datetime | None
    eta: datetime | None
    retries: int
    fields: Mapping[str, Any]

    @property
    def correlation_id(self) -> UUID | None:
        """The job's id; None for a message that is none of our jobs."""
        try:
            return UUID(self.id)
        except ValueError:
            return None

    @property
    def operation(self) -> str:
        """The operation; of a task that is none of ours, its name."""
        return OPERATION_OF_TASK.get(self.task, self.task)

    @property
    def pattern_name(self) -> str | None:
        """The name of the pattern or the import that it is about."""
        if self.operation == IMPORT_OPERATION:
            name = self._arguments().get("name")
        else:
            data = self._contract().get("data")
            name = data.get("pattern_name") if isinstance(data, dict) else None
        return None if name is None else readable(name)

    @property
    def description(self) -> str:
        """A line about the job, made of its arguments: the line that a producer sends may hold the whole template."""
        if self.operation == IMPORT_OPERATION:
            return describe_run(**self._arguments())
        return describe_call(self.task, self._arguments())

    @property
    def contract(self) -> ModelContractPatternStorage | None:
        """The contract; None where there is none that can be read."""
        if not (given := self._contract()):
            return None
        with suppress(ContractInvalid):
            return ModelContractPatternStorage.model_validate(
                {"correlation_id": self.id, "operation": self.operation} | given
            )
        return None

    def matches(self, wanted: JobFilter) -> bool:
        """Whether the filter lets it through, as far as a message has what it asks for."""
        return (
            (not wanted.states or self.state in wanted.states)
            and (wanted.operation is None or self.operation == wanted.operation)
            and wanted.error_type is None
            and (wanted.queue is None or self.queue == wanted.queue)
            and (wanted.correlation_id is None or self.correlation_id == wanted.correlation_id)
            and (wanted.since is None or (self.sent_at is not None and self.sent_at >= wanted.since))
            and (wanted.until is None or self.sent_at is None or self.sent_at < wanted.until)
            and (wanted.pattern_name is None or self.pattern_name == wanted.pattern_name)
        )

    def _contract(self) -> dict[str, Any]:
        contract = self._arguments().get("contract")
        return contract if isinstance(contract, dict) else {}

    def _arguments(self) -> dict[str, Any]:
        body = self.fields.get("body")
        try:
            _, arguments, _ = json.loads(b64decode(body) if isinstance(body, str) else b"")
        except (ValueError, TypeError, RecursionError):
            return {}
        return arguments if isinstance(arguments, dict) else {}


def read_message(raw: bytes | str, queue: str) -> WaitingMessage:
    """Return the message of an element of a queue's list; one that cannot be read has an empty id."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        fields = None
    return message_of(fields, queue)


def message_of(given: Any, queue: str) -> WaitingMessage:
    """Return the message of an element that is parsed already."""
    fields = given if isinstance(given, dict) else {}
    headers = fields.get("headers")
    headers = headers if isinstance(headers, dict) else {}
    retries = headers.get("retries")
    return WaitingMessage(
        id=_shown(headers.get("id")),
        task=_shown(headers.get("task")) or "unreadable",
        state=ListedState.QUEUED,
        queue=queue,
        sent_at=parse_time(headers.get("sent_at")),
        eta=parse_time(headers.get("eta")),
        retries=retries if isinstance(retries, int) else 0,
        fields=fields,
    )


def _shown(value: Any) -> str:
    return one_line(readable(value))[:SHOWN] if value is not None else ""


def parse_time(value: Any) -> datetime | None:
    """Return a time of Celery's, in ISO 8601 or Unix time, as UTC; None for anything else."""
    try:
        time = datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
