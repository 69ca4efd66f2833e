"""Messages from Redis, which may be any bytes: parsed, or refused with a sentence that says why."""

from base64 import b64decode
from collections.abc import Callable
from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from pydantic_core import from_json

from pattern_storage.tasks.transport.kombu_parts import virtual

#: Levels of nesting in a message at most, the limit of pydantic's parser. A message with some 470 levels cannot be
#: pickled for a pool process any more.
MAX_DEPTH = 200


class Unreadable(ValueError):
    """A message that kombu cannot have sent. The text says what is wrong, and shows nothing of the content."""


def parse(text: str | bytes) -> Any:
    """Parse JSON as kombu does, for which an object with `__type__` stands for one of Python's types."""
    mark = b"__type__" if isinstance(text, bytes) else "__type__"
    if mark not in text:  # type: ignore[operator]  # both are of one kind
        try:
            return from_json(text)
        # pydantic's parser refuses more than Python's: half a surrogate pair, and more than 200 levels.
        except ValueError:
            pass
    value = loads(bytes_to_str(text))
    if nests_too_deeply(value):
        raise ValueError("it nests too deeply")
    return value


def nests_too_deeply(value: Any) -> bool:
    """Return whether a value has more than MAX_DEPTH levels of lists and objects."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for value in level
            if isinstance(value, dict | list | tuple)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True


def load(raw: bytes) -> Any:
    """Parse a message. Raises Unreadable."""
    try:
        return parse(raw)
    # Also RecursionError, and any error of kombu's own types in JSON.
    except Exception as error:
        raise Unreadable(f"it cannot be read as JSON ({type(error).__name__})") from None


class Message(virtual.Message):  # type: ignore[misc]  # kombu's is untyped
    """kombu's message. Building one raises Unreadable in place of kombu's many errors.

    A body in base64 is decoded, and checked, when it is first read. For most jobs only the pool process reads it.
    """

    #: A body in base64 that is not decoded yet.
    encoded_body: str | None = None
    _body: Any = None
    #: Whether work on the message may have begun; set by a consumer that knows it. One that was handed back unbegun is
    #: not marked as redelivered.
    has_begun: Callable[[], bool] = staticmethod(lambda: True)

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        if not isinstance(payload, dict) or not isinstance(payload.get("properties"), dict):
            raise Unreadable("it is not a JSON object with properties")
        headers = payload.get("headers")
        if not isinstance(headers, dict | None):
            raise Unreadable(f"its headers should be an object, got {type(headers).__name__}")
        properties, body = payload["properties"], payload.get("body")
        if (
            options
            or not headers
            or "compression" in headers
            or type(body) is not str
            or properties.get("body_encoding") != "base64"
            or "delivery_tag" not in properties
        ):
            try:
                super().__init__(payload, channel, **options)
            except Exception as error:
                raise Unreadable(f"its body cannot be decoded ({type(error).__name__})") from None
            return
        # The same attributes as kombu's two constructors set.
        self._raw, self.channel, self.headers, self.properties = payload, channel, headers, properties
        self.delivery_tag = properties["delivery_tag"]
        self.delivery_info = properties.get("delivery_info") or {}
        self.content_type, self.content_encoding = payload.get("content-type"), payload.get("content-encoding")
        self.accept = self._decoded_cache = None
        self._state, self.encoded_body = "RECEIVED", body

    @property
    def body(self) -> Any:
        """The body. Raises binascii.Error if it is not base64."""
        if self._body is None and self.encoded_body is not None:
            self._body = b64decode(self.encoded_body)
        return self._body

    @body.setter
    def body(self, value: Any) -> None:
        self._body, self.encoded_body = value, None

    def _decode(self) -> Any:
        # For JSON alone; the result is kombu's.
        json = self.content_type == "application/json" and self.content_encoding == "utf-8"
        if json and (self.accept is None or self.content_type in self.accept):
            return parse(self.body)
        return super()._decode()
