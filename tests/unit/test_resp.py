"""Commands and replies as Redis has them on a connection."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from pattern_storage.tasks.resp import Incomplete, pack, read


def test_a_command() -> None:
    assert pack("SET", b"\xff\r\n", "é", 12, 0.5) == (
        b"*5\r\n$3\r\nSET\r\n$3\r\n\xff\r\n\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n$3\r\n0.5\r\n"
    )


@pytest.mark.parametrize(
    ("packed", "value"),
    [
        (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"_\r\n", None),
        (b"*-1\r\n", None),
        (b":-12\r\n", -12),
        (b"*3\r\n$9\r\nsubscribe\r\n$1\r\nk\r\n:1\r\n", [b"subscribe", b"k", 1]),
        (b">3\r\n$7\r\nmessage\r\n$1\r\nk\r\n$2\r\n{}\r\n", [b"message", b"k", b"{}"]),
    ],
)
def test_a_reply_in_pieces(packed: bytes, value: Any) -> None:
    for cut in range(len(packed)):
        with pytest.raises(Incomplete):
            read(bytearray(packed[:cut]))
    assert read(bytearray(packed + b"$1")) == (value, len(packed))
    assert read(bytearray(b":1\r\n" + packed), 4) == (value, len(packed) + 4)


def test_an_error_and_what_is_no_reply() -> None:
    error, end = read(bytearray(b"-NOPERM no\r\n"))
    assert isinstance(error, ResponseError)
    assert (str(error), end) == ("NOPERM no", 12)
    with pytest.raises(ConnectionResetError):
        read(bytearray(b"HTTP/1.1 400 Bad Request\r\n"))
