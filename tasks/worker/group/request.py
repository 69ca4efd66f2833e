"""Request of a plain job: what Celery's has, and its body as it came, which the pool process decodes.

Celery decodes each message in the main process, builds two promises and some dictionaries, and does so one by one.
A job without links, options and limits of its own needs an id, its headers and its acknowledgement.
"""

from base64 import b64decode
from time import monotonic, time
from typing import Any

from celery.app.task import Context
from celery.worker import state
from pydantic_core import to_json

from pattern_storage.tasks.transport.message import Message
from pattern_storage.tasks.worker.message_validation import MessageInvalid, check_job
from pattern_storage.tasks.worker.request import StorageRequest

#: What the body of a message without links ends with: the whole third part of it, as Celery and our client write it.
NO_LINKS = b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
#: Characters of base64 that hold it.
_TAIL = 4 * -(-(len(NO_LINKS) + 2) // 3)

#: Headers that change how a job is executed, or shown: none of them is set for a plain job. `kwargsrepr` is Celery's of
#: a call that our client did not make, and has the template in it.
_OPTIONS = (
    "retries", "eta", "expires", "group", "taskset", "group_index", "replaced_task_nesting", "stamped_headers",
    "stamps", "shadow", "kwargsrepr", "utc",
)  # fmt: skip
#: Those that are text, if they are there.
_TEXTS = ("root_id", "parent_id", "argsrepr", "origin", "lang")
#: What a validated message may say of limits: nothing.
_NO_LIMITS: tuple[Any, ...] = (None, [None, None])
_TEXT_OR_NONE = frozenset({str, type(None)})
_FLAG_OR_NONE = frozenset({bool, type(None)})
_NUMBER_OR_NONE = frozenset({int, type(None)})


def is_plain(message: Any) -> bool:
    """Return whether a message is a first delivery of a job without links, options and limits of its own.

    Whatever is not as it should be is no plain job either: `message_validation` finds out.
    """
    if type(message) is not Message or message.encoded_body is None:
        return False
    headers, properties, delivery = message.headers, message.properties, message.delivery_info
    get, job_id = headers.get, headers.get("id")
    return (
        type(job_id) is str
        and 0 < len(job_id) <= 1_000
        and job_id.isprintable()
        and message.content_type == "application/json"
        and message.content_encoding == "utf-8"
        and not any(map(get, _OPTIONS))
        and get("timelimit") in _NO_LIMITS
        and _TEXT_OR_NONE.issuperset(map(type, map(get, _TEXTS)))
        and type(get("ignore_result")) in _FLAG_OR_NONE
        and type(properties.get("correlation_id")) in _TEXT_OR_NONE
        and type(properties.get("reply_to")) in _TEXT_OR_NONE
        and type(properties.get("priority")) in _NUMBER_OR_NONE
        and type(delivery) is dict
        and type(delivery.get("routing_key")) is str
        and not delivery.get("redelivered")
        and _has_no_links(message.encoded_body)
    )


def _has_no_links(body: str) -> bool:
    try:
        return b64decode(body[-_TAIL:]).endswith(NO_LINKS)
    # Not ASCII, or no base64 at all.
    except ValueError:
        return False


class PlainRequest(StorageRequest):
    """Celery's request with less in it. What is the same for all requests of a task is in a subclass: `of_task`."""

    # Celery's constructor sets these for each; here they are constants, or properties.
    _utc = True
    _decoded = False
    _eta = _expires = None
    _kwargsrepr = ""
    _content_type, _content_encoding = "application/json", "utf-8"
    # Celery's, which its type stubs do not know; and the consumer.
    _task: Any
    _eventer: Any
    _hostname: str
    _terminate_on_ack: Any
    _consumer: Any
    #: Whether all that is reported comes from the thread of the event loop, as it does with processes.
    _in_loop = False

    def __init__(self, message: Any) -> None:
        headers = message.headers
        properties, delivery = message.properties, message.delivery_info
        self._message = message
        self.id = headers["id"]
        self._root_id, self._parent_id = headers.get("root_id"), headers.get("parent_id")
        self._argsrepr = headers.get("argsrepr") or ""
        ignored = headers.get("ignore_result")
        self._ignore_result = self._task.ignore_result if ignored is None else ignored
        self._delivery_info = {
            "exchange": delivery.get("exchange"),
            "routing_key": delivery["routing_key"],
            "priority": properties.get("priority"),
            "redelivered": False,
        }
        self._request_dict = {
            **headers,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "hostname": self._hostname,
            "delivery_info": self._delivery_info,
            # For the ledger, as of every job.
            "claimed_at": time(),
        }

    @classmethod
    def of_task(cls, task: Any, app: Any, consumer: Any, in_loop: bool) -> "type[PlainRequest]":
        """Return the class of requests of a task on the consumer's connection."""
        constants = {
            "_app": app, "_task": task, "_type": task.name, "name": task.name, "_hostname": consumer.hostname,
            "_eventer": consumer.event_dispatcher, "_connection_errors": consumer.connection_errors,
            "_consumer": consumer, "_in_loop": in_loop,
        }  # fmt: skip
        return type(cls.__name__, (cls,), constants)

    @property
    def encoded_body(self) -> str | None:
        """The body as it came."""
        body: str | None = self._message.encoded_body
        return body

    @property
    def size(self) -> int:
        """The bytes of the body, in base64."""
        return len(self._message.encoded_body or "")

    # --- what Celery's constructor decodes ---

    @property
    def _body(self) -> Any:
        return self._message.body

    @property
    def _payload(self) -> Any:  # type: ignore[override]  # nobody sets it
        # As long as it waits for its group nobody has looked whether it is what it should be.
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

    # --- what Celery does, without what a plain job does not need ---

    @property
    def _sends_events(self) -> bool:
        return self._eventer is not None and bool(self._task.send_events)

    def on_received(self) -> None:
        """Say that the job was received."""
        if self._sends_events:
            told = {
                "uuid": self.id, "name": self.name, "args": self._argsrepr, "kwargs": "", "root_id": self._root_id,
                "parent_id": self._parent_id, "retries": 0, "eta": None, "expires": None,
            }  # fmt: skip
            self._send("task-received", told)

    def on_accepted(self, pid: Any, time_accepted: Any) -> None:
        """Note that a pool process has begun the job."""
        self.worker_pid = pid
        self.time_start = time() - (monotonic() - time_accepted)
        state.task_accepted(self)
        if not self._task.acks_late:
            self.acknowledge()
        if self._sends_events:
            self._send("task-started", {"uuid": self.id, "routing_key": self._delivery_info["routing_key"]})
        if self._terminate_on_ack is not None:
            self.terminate(*self._terminate_on_ack)

    def on_success(self, failed__retval__runtime: tuple[Any, Any, Any], **kwargs: Any) -> None:
        """Note how the job ended."""
        failed, shown, seconds = failed__retval__runtime
        if failed:
            super().on_success(failed__retval__runtime, **kwargs)
            return
        # Not among the successful ones, which are kept for tasks whose results are looked up before they run.
        state.task_ready(self)
        if self._task.acks_late:
            self.acknowledge()
        if self._sends_events:
            routing_key = self._delivery_info["routing_key"]
            told = {"uuid": self.id, "result": shown, "runtime": seconds, "routing_key": routing_key}
            self._send("task-succeeded", told)

    def _send(self, event: str, fields: dict[str, Any]) -> None:
        try:
            self._eventer.send_text(event, to_json(fields)[1:-1].decode())
        # Half a surrogate pair.
        except ValueError:
            self._eventer.send(event, **fields)
