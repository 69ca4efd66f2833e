"""Redis keys of a channel's queues, and what its commands say of them, which is prepared once."""

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
    #: How many of its messages the channel may claim now.
    free: int = UNLIMITED
    #: Whether it is watched together with others, not waited for on a connection of its own.
    is_watched: bool = False


class QueueKeys(tuple[QueueKey, ...]):
    """Some of them in an order; kept, since the next claim is nearly always about the same."""

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The place of each key, counted from 1."""
        return {one.key: number for number, one in enumerate(self, 1)}

    @cached_property
    def recorded(self) -> str:
        """For each key whether its messages are recorded as unacked, as the claim's script reads it."""
        return "".join("1" if one.needs_ack else "0" for one in self)

    @cached_property
    def free(self) -> str:
        """For each key how many of its messages may be claimed, as the claim's script reads it."""
        return " ".join(str(one.free) for one in self)

    @cached_property
    def packed(self) -> bytes:
        """The keys as a part of a packed command."""
        return bulk(one.key for one in self)
