"""Requests of plain jobs: what Celery's request of the same message is, though the message is not decoded."""

import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
from celery.worker import request as celery_request
from celery.worker import state
from kombu.asynchronous import Hub
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from kombu.transport.virtual import Message as KombuMessage

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.tasks.client.message import encode_for_redis
from pattern_storage.tasks.client.outgoing import prepare
from pattern_storage.tasks.transport.message import Message, load
from pattern_storage.tasks.worker.group import call, grouper
from pattern_storage.tasks.worker.message_validation import MessageInvalid, check_job
from pattern_storage.tasks.worker.plain_message import is_plain
from pattern_storage.tasks.worker.plain_request import PlainRequest
from pattern_storage.tasks.worker.request import StorageRequest

TASK: Any = SimpleNamespace(
    name="storage.insert", ignore_result=False, send_events=True, acks_late=True, soft_time_limit=1, time_limit=2
)
PATTERN = {"pattern_name": "a", "pattern_type": "function", "language": "python", "template_code": "x = 'ü'"}
CHANNEL: Any = SimpleNamespace(no_ack_consumers=None, decode_body=lambda body, encoding: b64decode(body))


class Eventer:
    """Takes events as the dispatcher does."""

    enabled = True

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send_text(self, type: str, fields: str) -> None:  # noqa: A002  # the dispatcher's name for it
        self.sent.append({"type": type} | json.loads(f"{{{fields}}}"))

    def send(self, type: str, **fields: Any) -> None:  # noqa: A002
        self.sent.append({"type": type} | fields)


def payload() -> dict[str, Any]:
    """Return a message as our client sends it."""
    contract = ModelContractPatternStorage(operation="insert", data=PATTERN)
    found: dict[str, Any] = load(encode_for_redis(prepare(contract))[1])
    return found


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return the message with another value in a place: `headers.eta`, for example; None as a value leaves it out."""
    message = payload()
    *folders, name = place.split(".")
    inner = message
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return message


def body(text: str) -> str:
    return b64encode(text.encode()).decode()


def both() -> tuple[Any, Any, Eventer, Eventer]:
    """Return our request and Celery's of one message, and who hears of each."""
    ours, celery, found = Eventer(), Eventer(), payload()
    app = SimpleNamespace(use_fast_trace_task=False, conf=SimpleNamespace(timezone="UTC"))
    consumer = SimpleNamespace(hostname="here", event_dispatcher=ours, connection_errors=(OSError,))
    plain = PlainRequest.of_task(TASK, app, consumer, True)(Message(found, CHANNEL))
    create: Any = vars(celery_request)["create_request_cls"]
    stock = create(StorageRequest, TASK, SimpleNamespace(apply_async=None), "here", celery, app=app, trace=lambda: None)
    message = KombuMessage(found, CHANNEL)
    request = stock(
        message, hostname="here", eventer=celery, app=app, task=TASK, connection_errors=(OSError,), body=message.body,
        headers=message.headers, on_ack=lambda *_: None,
    )  # fmt: skip
    plain._message.channel = SimpleNamespace(no_ack_consumers=None, basic_ack=lambda *_, **__: None)
    return plain, request, ours, celery


def test_a_request_is_what_celerys_is() -> None:
    plain, request, _, _ = both()
    names = (
        "id name type root_id parent_id argsrepr kwargsrepr args kwargs body content_type content_encoding utc eta"
        " expires hostname ignore_result delivery_info reply_to correlation_id chord errbacks group group_index"
        " connection_errors store_errors task"
    )
    for name in names.split():
        assert getattr(plain, name) == getattr(request, name), name
    assert plain.info() == request.info()
    # They were made one after the other.
    assert isinstance(plain.request_dict["claimed_at"], float)
    plain.request_dict["claimed_at"] = request.request_dict["claimed_at"]
    # The pool process adds the arguments.
    assert plain.request_dict | {"args": plain.args, "kwargs": plain.kwargs} == request.request_dict
    assert vars(plain._context) == vars(request._context)


def test_events_are_celerys() -> None:
    plain, request, ours, celery = both()
    for one in (plain, request):
        one.on_accepted(7, 0.0)
        one.on_success((0, "shown", 0.5))
        assert one.acknowledged
    assert ours.sent == celery.sent
    plain.on_received()
    assert ours.sent[-1] | {"type": ""} == {
        "type": "", "uuid": plain.id, "name": "storage.insert", "args": plain.argsrepr, "kwargs": "",
        "root_id": plain.id, "parent_id": None, "retries": 0, "eta": None, "expires": None,
    }  # fmt: skip


def test_a_job_that_leaves_its_group_starts_once() -> None:
    plain, _, ours, _ = both()
    total = state.total_count[plain.name]
    alone: list[Any] = []
    for pid in (7, 8):
        group = call.GroupCall([plain], SimpleNamespace(end=int, begin_ahead=int, execute_alone=alone.append))
        group._slow = SimpleNamespace(cancel=int)
        plain.on_accepted(pid, 0.0)
        assert plain in state.active_requests
        group.on_ended([None])
        assert plain not in state.active_requests
    assert alone == [plain, plain]
    assert [event["type"] for event in ours.sent] == ["task-started"]
    assert state.total_count[plain.name] == total + 1


def test_a_group_that_has_ended_keeps_no_requests() -> None:
    # kombu keeps a timer that was cancelled until it would have been due: hundreds of megabytes of messages.
    plain, _, _, _ = both()
    hub = Hub()
    group = call.GroupCall([plain], SimpleNamespace(end=int, begin_ahead=int, consumer=SimpleNamespace(hub=hub)))
    group.on_accepted(7, 0.0)
    group.on_ended([(0, "shown", 0.5)])
    assert group.mark_started in [entry.fun for *_, entry in hub.timer.queue]
    kept = ref(plain)
    del plain
    assert kept() is None


def test_a_plain_job_is_one() -> None:
    assert is_plain(Message(payload(), CHANNEL))
    # As kombu's own transports for Redis and RabbitMQ build it.
    stock: Any = KombuMessage(payload(), CHANNEL)
    assert is_plain(stock)
    stock.body = stock.body.decode()
    assert is_plain(stock)


@pytest.mark.parametrize("length", range(3))
def test_a_job_with_links_is_none(length: int) -> None:
    """The end of its body in base64 depends on the length of what is before."""
    for callbacks, plain in ((None, True), ([{"task": "a"}], False)):
        links = {"callbacks": callbacks, "errbacks": None, "chain": None, "chord": None}
        text = json.dumps([[], {"contract": "x" * length}, links])
        for encoded in (body(text), text):
            assert is_plain(Message(changed("body", encoded), CHANNEL)) == plain
    # Other JSON than Celery's: the pool process finds out.
    assert is_plain(Message(changed("body", body(text.replace(" ", ""))), CHANNEL))


@pytest.mark.parametrize("own", [True, False], ids=["our transport", "kombu's"])
def test_a_plain_job_of_another_application_is_described(own: bool) -> None:
    """It puts the `repr` of the arguments into the headers, template code and all."""
    found = payload()
    found["headers"] |= {"argsrepr": "()", "kwargsrepr": "{'contract': 'all of it'}"}
    message = Message(found, CHANNEL) if own else KombuMessage(found, CHANNEL)
    assert is_plain(message)
    consumer = SimpleNamespace(hostname="here", event_dispatcher=None, connection_errors=())
    request = PlainRequest.of_task(TASK, None, consumer, True)(message)
    told = request.request_dict
    assert [request.argsrepr, told["argsrepr"]] == ["insert a (function/python)"] * 2
    assert [request.kwargsrepr, told["kwargsrepr"]] == [""] * 2


@pytest.mark.parametrize(
    "message",
    [
        lambda: changed("headers.retries", 1),
        lambda: changed("headers.eta", "2030-01-01T00:00:00"),
        lambda: changed("headers.expires", "2030-01-01T00:00:00"),
        lambda: changed("headers.group", "g"),
        lambda: changed("headers.stamped_headers", ["a"]),
        lambda: changed("headers.timelimit", [1, None]),
        lambda: changed("headers.timelimit", 5),
        lambda: changed("headers.shadow", "another name"),
        lambda: changed("headers.id", None),
        lambda: changed("headers.id", "two\nlines"),
        lambda: changed("headers.id", "x" * 1_001),
        lambda: changed("headers.root_id", 5),
        lambda: changed("headers.argsrepr", ["a"]),
        lambda: changed("headers.ignore_result", "yes"),
        lambda: changed("properties.delivery_info.redelivered", True),
        lambda: changed("properties.delivery_info.routing_key", None),
        lambda: changed("properties.delivery_info", "nowhere"),
        lambda: changed("properties.correlation_id", 5),
        lambda: changed("properties.priority", "high"),
        lambda: changed("content-type", "application/x-python-serialize"),
        lambda: changed("content-encoding", "binary"),
        lambda: changed("body", "ü"),
        lambda: changed("body", ""),
        lambda: changed("body", None),
        # A mix of both protocols.
        lambda: changed("body", body('{"args": [], "kwargs": {}, "callbacks": null}')),
    ],
)
def test_what_is_no_plain_job(message: Callable[[], dict[str, Any]]) -> None:
    assert not is_plain(Message(message(), CHANNEL))


@pytest.mark.parametrize("place", ["headers.lang", "headers.origin", "headers.parent_id", "properties.reply_to"])
def test_nothing_is_plain_that_is_not_valid(place: str) -> None:
    message = Message(changed(place, {"no": "text"}), CHANNEL)
    assert not is_plain(message)
    with pytest.raises(MessageInvalid):
        check_job(message)


def test_a_body_that_is_none_has_no_arguments() -> None:
    found = Message(changed("body", body("[{")), CHANNEL)
    assert is_plain(found)
    consumer = SimpleNamespace(hostname="here", event_dispatcher=None, connection_errors=())
    request = PlainRequest.of_task(TASK, None, consumer, True)(found)
    assert (request.args, request.kwargs) == ([], {})


def test_a_body_that_is_none_is_refused_where_each_job_shows_its_own_statements() -> None:
    """Such a job goes alone, and its body has not been decoded before."""
    refused: list[Any] = []
    found = payload()
    found["body"] = body("[{")
    channel = SimpleNamespace(no_ack_consumers=None, refuse=refused.append)
    message = Message(found, channel)
    assert is_plain(message)
    pool = SimpleNamespace(active=True)
    consumer = SimpleNamespace(
        hostname="here",
        event_dispatcher=None,
        connection_errors=(OSError,),
        connection=None,
        pool=pool,
        on_task_request=pytest.fail,
        hub=SimpleNamespace(call_soon=lambda callback, *values: callback(*values)),
    )
    one: Any = grouper.Grouper.__new__(grouper.Grouper)
    one.connection, one.consumer, one._size, one.traced, one._threads = None, consumer, 2, True, None
    one._slots, one._asking = LaxBoundedSemaphore(1), True
    one._slots.acquire(lambda: None)
    request = PlainRequest.of_task(TASK, SimpleNamespace(), consumer, True)(message)
    request.revoked = lambda: False  # type: ignore[method-assign]
    one._waiting = deque([request])
    one._begin()
    assert refused == [message]
    assert one._slots.value == 1


def test_a_message_of_a_lost_connection_is_not_refused() -> None:
    """It is delivered again by now, and its channel cannot reject it: that would end the new connection too."""
    refused: list[Any] = []
    found = payload()
    found["body"] = body("[{")
    message = Message(found, SimpleNamespace(no_ack_consumers=None, refuse=refused.append))
    consumer = SimpleNamespace(
        hostname="here",
        event_dispatcher=None,
        connection_errors=(OSError,),
        connection="another",
        pool=SimpleNamespace(active=True),
        on_task_request=pytest.fail,
        hub=SimpleNamespace(call_soon=lambda callback, *values: callback(*values)),
    )
    lost: Any = grouper.Grouper.__new__(grouper.Grouper)
    lost.connection, lost.consumer = "lost", consumer
    request = PlainRequest.of_task(TASK, SimpleNamespace(), consumer, True)(message)
    state.task_reserved(request)
    lost.execute_alone(request)
    assert not refused
    assert request not in state.reserved_requests
