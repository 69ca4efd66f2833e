"""Request of a plain job: like Celery's, but the message's body stays as it came, for the pool process to decode.

Celery decodes each message in the main process, builds two promises and some dictionaries, and does so one by one.
A plain job needs an id, its headers and its acknowledgement.
"""

from time import monotonic, time
from typing import Any

from celery.app.task import Context
from celery.worker import state
from pydantic_core import to_json

from pattern_storage.tasks.worker.message_validation import MessageInvalid, check_job
from pattern_storage.tasks.worker.plain_message import raw_body, request_of
from pattern_storage.tasks.worker.request import StorageRequest


class PlainRequest(StorageRequest):
    """Celery's request with less in it. The values that all requests of a task share are in a subclass: `of_task`."""

    # Celery's constructor sets these for each request; here they are constants, or properties.
    _utc = True
    _decoded = False
    _eta = _expires = None
    _kwargsrepr = ""
    _content_type, _content_encoding = "application/json", "utf-8"
    # Set by `of_task`.
    _task: Any
    _eventer: Any
    _hostname: str
    _consumer: Any
    _in_loop: bool
    _sends_events: bool
    #: Whether the job began in a group and goes alone now: it is one start, for Flower and for the worker's totals.
    was_accepted = False

    def __init__(self, message: Any) -> None:
        headers = message.headers
        self._message = message
        self.raw_body = raw_body(message)
        self.id = headers["id"]
        self._root_id, self._parent_id = headers.get("root_id"), headers.get("parent_id")
        self._argsrepr = headers.get("argsrepr") or ""
        ignored = headers.get("ignore_result")
        self._ignore_result = self._task.ignore_result if ignored is None else ignored
        self._request_dict = request_of(message, self._hostname)
        self._delivery_info = self._request_dict["delivery_info"]
        if headers.get("kwargsrepr"):
            self._describe()

    @classmethod
    def of_task(cls, task: Any, app: Any, consumer: Any, in_loop: bool) -> "type[PlainRequest]":
        """Return the class of requests of a task on the consumer's connection.

        `in_loop`: whether the pool reports everything in the thread of the event loop, as it does with processes.
        """
        eventer = consumer.event_dispatcher
        constants = {
            "_app": app, "_task": task, "_type": task.name, "name": task.name, "_hostname": consumer.hostname,
            "_eventer": eventer, "_sends_events": eventer is not None and bool(task.send_events),
            "_connection_errors": consumer.connection_errors, "_consumer": consumer, "_in_loop": in_loop,
        }  # fmt: skip
        return type(cls.__name__, (cls,), constants)

    # --- attributes that Celery's constructor decodes ---

    @property
    def _body(self) -> Any:
        return self._message.body

    @property
    def _payload(self) -> Any:  # Celery sets it
        # Nothing has validated the body while the request waits for its group.
        try:
            check_job(self._message)
        except MessageInvalid:
            return [], {}, {}
        return self._message.payload

    @property
    def _args(self) -> Any:
        return self._payload[0]

    @property
    def _kwargs(self) -> Any:
        return self._payload[1]

    @property
    def _context(self) -> Context:
        args, kwargs, embed = self._payload
        return Context({**self._request_dict, "args": args, "kwargs": kwargs, **(embed or {})})

    # --- acknowledgement ---

    def _on_ack(self, logger: Any, errors: Any) -> None:
        if self._in_loop:
            self._message.ack_log_error(logger, errors)
        else:
            self._consumer.call_soon_ack(self._message.ack_log_error, logger, errors)

    def _on_reject(self, logger: Any, errors: Any, requeue: bool) -> None:
        self._consumer.call_soon_ack(self._message.reject_log_error, logger, errors, requeue)

    # --- Celery's reports of the pool, without the parts that a plain job does not need ---

    def on_received(self) -> None:
        """Send the event."""
        if self._sends_events:
            fields = {
                "uuid": self.id, "name": self.name, "args": self._argsrepr, "kwargs": "", "root_id": self._root_id,
                "parent_id": self._parent_id, "retries": 0, "eta": None, "expires": None,
            }  # fmt: skip
            self._send("task-received", fields)

    def on_accepted(self, pid: Any, time_accepted: Any) -> None:
        """Note that a pool process has begun the job."""
        self.worker_pid = pid
        self.time_start = time() - (monotonic() - time_accepted)
        if self.was_accepted:
            state.active_requests.add(self)
        else:
            state.task_accepted(self)
            if self._sends_events:
                self._send("task-started", {"uuid": self.id, "routing_key": self._delivery_info["routing_key"]})
        if self._terminate_on_ack is not None:
            self.terminate(*self._terminate_on_ack)

    def on_success(self, failed__retval__runtime: tuple[Any, Any, Any], **kwargs: Any) -> None:
        """Note that the job ended, and acknowledge it: its result is stored."""
        failed, shown, seconds = failed__retval__runtime
        if failed:
            super().on_success(failed__retval__runtime, **kwargs)
            return
        # Not as a successful one: Celery keeps the ids of those for tasks that look for their result before they run.
        state.task_ready(self)
        self.acknowledge()
        if self._sends_events:
            routing_key = self._delivery_info["routing_key"]
            fields = {"uuid": self.id, "result": shown, "runtime": seconds, "routing_key": routing_key}
            self._send("task-succeeded", fields)

    def _send(self, event: str, fields: dict[str, Any]) -> None:
        try:
            self._eventer.send_text(event, to_json(fields)[1:-1].decode())
        # Half a surrogate pair.
        except ValueError:
            self._eventer.send(event, **fields)
