"""Memory that a worker's main process shares with its pool: whether a process may claim, and what it has claimed.

The main process cannot ask a process that is killed. So the process writes each message here before it claims it, and
the main process finds it here afterwards.
"""

import struct
from mmap import mmap

#: Bytes of a message at most. Larger ones are left to the main process: a report of up to 16 KiB is one write, which
#: Celery's event loop reads at once where the pipe has room for it.
MAX_SIZE = 12_000
_GRANTED, _BUSY = 0, 1
_CLIENT_ID, _LENGTH = struct.Struct("<q"), struct.Struct("<q")
_CLIENT_ID_AT, _LENGTH_AT, _MESSAGE_AT = 8, 16, 24


class Permit:
    """`granted` and `busy` are written by the main process, all else by the pool process; `take` after its end."""

    def __init__(self) -> None:
        self._memory = mmap(-1, _MESSAGE_AT + MAX_SIZE)

    @property
    def granted(self) -> bool:
        """Whether the pool process may wait for messages."""
        return bool(self._memory[_GRANTED])

    @granted.setter
    def granted(self, value: bool) -> None:
        self._memory[_GRANTED] = value

    @property
    def busy(self) -> bool:
        """Whether the main process has jobs: then it collects the next ones, and no process begins to wait."""
        return bool(self._memory[_BUSY])

    @busy.setter
    def busy(self, value: bool) -> None:
        self._memory[_BUSY] = value

    @property
    def client_id(self) -> int:
        """The id of the connection on which the pool process waits, by which it can be woken; 0 if there is none."""
        return int(_CLIENT_ID.unpack_from(self._memory, _CLIENT_ID_AT)[0])

    @client_id.setter
    def client_id(self, value: int) -> None:
        _CLIENT_ID.pack_into(self._memory, _CLIENT_ID_AT, value)

    @property
    def holds(self) -> bool:
        """Whether there is a message of which the main process has not been told."""
        return bool(_LENGTH.unpack_from(self._memory, _LENGTH_AT)[0])

    def hold(self, message: bytes) -> None:
        """Note the message that is going to be claimed."""
        self._memory[_MESSAGE_AT : _MESSAGE_AT + len(message)] = message
        _LENGTH.pack_into(self._memory, _LENGTH_AT, len(message))

    def release(self) -> None:
        """Forget the message: the main process has been told."""
        _LENGTH.pack_into(self._memory, _LENGTH_AT, 0)

    def take(self) -> bytes:
        """Return the message of a process that has ended, and forget it; empty if there was none."""
        length = _LENGTH.unpack_from(self._memory, _LENGTH_AT)[0]
        self.release()
        self.client_id = 0
        return self._memory[_MESSAGE_AT : _MESSAGE_AT + length]
