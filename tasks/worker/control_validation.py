"""Validation of messages between workers: remote control commands, and the events of other workers."""

from inspect import signature
from typing import Any

from pattern_storage.tasks.worker.message_validation import MessageInvalid

#: The fields of an event by which a worker stands for election.
ELECTION = ("id", "clock", "hostname", "pid", "topic", "action", "cver")


def check_control(body: Any, node: Any) -> None:
    """Raise MessageInvalid for a remote control message that is no valid call of a command of this node."""
    if not isinstance(body, dict):
        raise MessageInvalid(f"it should be a JSON object, got {type(body).__name__}")
    handler = node.handlers.get(body["method"]) if isinstance(body.get("method"), str) else None
    if handler is None:
        raise MessageInvalid("its method should be the name of a command")
    kinds: dict[str, tuple[type, ...]] = {"arguments": (dict,), "destination": (list, str), "reply_to": (dict,)}
    for field, allowed in kinds.items():
        if body.get(field) is not None and not isinstance(body[field], allowed):
            raise MessageInvalid(f"its {field} should be {allowed[0].__name__}, got {type(body[field]).__name__}")
    if (to := body.get("reply_to")) and not all(isinstance(to.get(name), str) for name in ("exchange", "routing_key")):
        raise MessageInvalid("its reply_to should have an exchange and a routing_key")
    try:
        signature(handler).bind(node.state, **body.get("arguments") or {})
    except TypeError as error:
        raise MessageInvalid(f"its arguments are none of {body['method']}: {error}") from None


def check_event(message: Any) -> None:
    """Raise MessageInvalid for a message that is no event, or that lacks a field of an election."""
    needed = {"worker.elect": ELECTION, "worker.elect.ack": ("id", "hostname")}
    fields = needed.get(message.delivery_info.get("routing_key"), ())
    if not isinstance(message.payload, dict):
        raise MessageInvalid(f"it should be a JSON object, got {type(message.payload).__name__}")
    if missing := [field for field in fields if field not in message.payload]:
        raise MessageInvalid(f"it lacks {', '.join(missing)}")
