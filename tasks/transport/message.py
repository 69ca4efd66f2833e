"""Messages as they come from Redis, which may be any bytes: parsed, or refused with a sentence."""

from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from pattern_storage.tasks.transport.kombu_parts import virtual


class Unreadable(ValueError):
    """A message is none that kombu could have sent; the text says what is wrong, and shows nothing of its content."""


def load(raw: bytes) -> Any:
    """Parse a message. Raises Unreadable."""
    try:
        return loads(bytes_to_str(raw))
    # Also RecursionError, and whatever kombu's own types in JSON raise.
    except Exception as error:
        raise Unreadable(f"it cannot be read as JSON ({type(error).__name__})") from None


class Message(virtual.Message):  # type: ignore[misc]  # kombu's is untyped
    """kombu's message. Building one raises Unreadable in place of whatever kombu would end with."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        if not isinstance(payload, dict) or not isinstance(payload.get("properties"), dict):
            raise Unreadable("it is not a JSON object with properties")
        if not isinstance(payload.get("headers", {}), dict | None):
            raise Unreadable(f"its headers should be an object, got {type(payload['headers']).__name__}")
        try:
            super().__init__(payload, channel, **options)
        except Exception as error:
            raise Unreadable(f"its body cannot be decoded ({type(error).__name__})") from None
