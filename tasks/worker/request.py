"""The worker's view of a message: refused if it is no job, and its arguments described instead of printed."""

import json
from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError

from pattern_storage.storage.logs import correlated
from pattern_storage.tasks.description import describe_call


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return Celery's own handler of messages, behind a check that refuses what it would not survive.

    Stock Celery unpacks a message unchecked: `[]` in place of `[args, kwargs, embed]` ends the worker, puts the
    message back, and so ends the next one.
    """
    handle = default(task, app, consumer, **options)

    def handle_checked(message: Any, body: Any, *rest: Any, **more: Any) -> Any:
        # A body was decoded already if the message follows the old protocol.
        if body is None:
            _check(message)
        return handle(message, body, *rest, **more)

    return handle_checked


def _check(message: Any) -> None:
    job = message.headers.get("id")
    # The log shows what is raised here, and nothing else of the message.
    about = f"{message.headers['task']}[{job}]"
    try:
        payload = message.payload
    except (DecodeError, ContentDisallowed) as error:
        raise InvalidTaskError(f"{about}: its body cannot be read ({type(error).__name__})") from None
    match payload:
        case [list(), dict(), dict() | None] if isinstance(job, str):
            return
    raise InvalidTaskError(f"{about}: a job needs an id in its headers, and [args, kwargs, embed] as its body")


class StorageRequest(Request):
    """Shows `describe_contract(...)` as the arguments of a job, whoever sent it.

    A plain `send_task` puts the `repr` of its arguments into the message's headers, template code and all;
    Celery passes that on to logs, events and Flower. Our own client sends the description to begin with.
    """

    _request_dict: dict[str, Any]

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        if self.kwargsrepr:
            description = self._description()
            self._argsrepr, self._kwargsrepr = description, ""
            # What a worker process is told, for its events and its log.
            self._request_dict |= {"argsrepr": description, "kwargsrepr": ""}

    def info(self, safe: bool = False) -> Any:
        """Return what `inspect active` and Flower's page of a worker show."""
        return super().info(safe=True)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # Celery's name for it
        """Send an event that names the queue: only a producer's events do otherwise, and few send any."""
        super().send_event(type, routing_key=self.delivery_info.get("routing_key"), **fields)

    def on_failure(self, *failure: Any, **options: Any) -> Any:
        """Do what Celery does when a job's process fails or is lost; what it logs of that has the job's id."""
        with correlated(str(self.id)):
            return super().on_failure(*failure, **options)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Do what Celery does when a job's time is over, in the same way."""
        with correlated(str(self.id)):
            return super().on_timeout(soft, timeout)

    def revoked(self) -> Any:
        """Do what Celery does to find out whether a job was revoked, in the same way."""
        with correlated(str(self.id)):
            return super().revoked()

    def _description(self) -> str:
        try:
            _, kwargs, _ = json.loads(self.body) if isinstance(self.body, str | bytes) else self.body
        except (ValueError, TypeError):
            kwargs = None
        return describe_call(str(self.name), kwargs)
