"""Redis keys of a channel's queues, with the arguments of a claim about them, which are prepared once."""

from functools import cached_property
from typing import NamedTuple

from pattern_storage.tasks.resp import bulk

#: More messages than any channel holds.
UNLIMITED = 1_000_000


class QueueKey(NamedTuple):
    """The Redis key of one priority of one queue."""

    queue: str
    #: With the global prefix.
    key: str
    #: Whether its messages are recorded as unacked until they are acknowledged.
    needs_ack: bool
    #: Number of its messages that the channel may claim now.
    free: int = UNLIMITED
    #: Whether it is watched together with others, not waited for on a connection of its own.
    is_watched: bool = False


class QueueKeys(tuple[QueueKey, ...]):
    """Queue keys in the order of a claim; kept, since the next claim is nearly always about the same."""

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The place of each key, counted from 1."""
        return {queue_key.key: number for number, queue_key in enumerate(self, 1)}

    @cached_property
    def recorded(self) -> str:
        """For each key whether its messages are recorded as unacked, as claim.lua reads it."""
        return "".join("1" if queue_key.needs_ack else "0" for queue_key in self)

    @cached_property
    def free(self) -> str:
        """For each key how many of its messages may be claimed, as claim.lua reads it."""
        return " ".join(str(queue_key.free) for queue_key in self)

    @cached_property
    def packed(self) -> bytes:
        """The keys as a part of a packed command."""
        return bulk(queue_key.key for queue_key in self)
