"""A turn: the one call that acknowledges, settles what waits have moved, and claims more."""

from collections import deque
from collections.abc import Callable, Sequence
from time import time
from typing import Any, NamedTuple

from kombu.log import get_logger
from redis.exceptions import NoScriptError

from pattern_storage.tasks.transport.blocking_pop import Place
from pattern_storage.tasks.transport.polled_connection import Line
from pattern_storage.tasks.transport.scripts import CLAIM

logger = get_logger(__name__)

#: Acknowledgements in one turn: Lua takes some 8,000 arguments at a time.
ACKS = 1_000


class Claimed(NamedTuple):
    """A message that is this channel's to deliver: recorded as unacknowledged, or taken for good."""

    place: Place
    raw: bytes


def claim_command(
    books: Sequence[str],
    places: Sequence[Place],
    room: int,
    width: int = 1,
    acks: Sequence[str] = (),
    moved: Sequence[tuple[Place, bytes]] = (),
) -> tuple[tuple[Any, ...], list[Place]]:
    """Build the command of a turn.

    Args:
        books: the keys of kombu's hash of unacknowledged messages and of its index.
        places: where messages may be taken from, in that order.
        room: how many messages at most; what has been moved beyond that goes back.
        width: how many places share a round in which each gives one message.
        acks: delivery tags.
        moved: what waits have moved.

    Returns:
        The command, and the places that its answer counts from 1.
    """
    known = list(places)
    number = {place.key: n for n, place in enumerate(known, 1)}
    for place, _ in moved:
        if place.key not in number:
            known.append(place)
            number[place.key] = len(known)
    recorded = "".join("1" if place.recorded else "0" for place in known)
    arguments: list[Any] = [time(), room, len(places), width, recorded, len(acks), *acks]
    # The higher priority first, in case there is not room for all.
    for place, raw in sorted(moved, key=lambda one: number[one[0].key]):
        arguments += [number[place.key], raw]
    return CLAIM.command([*books, *(place.key for place in known)], arguments), known


def read_answer(answer: Sequence[Any], known: Sequence[Place]) -> tuple[int, list[Claimed]]:
    """Return how many messages are still waiting, and those that were claimed."""
    waiting, unreadable, *pairs = answer
    if unreadable:
        logger.critical("%d messages that are none of kombu's were put aside in *.unreadable", unreadable)
    claimed = [Claimed(known[n - 1], raw) for n, raw in zip(pairs[::2], pairs[1::2], strict=True)]
    return waiting, claimed


class Turn(Line):
    """The connection on which a channel takes its turns, one at a time.

    Acknowledgements go back on the list when the connection breaks: sending them twice does no harm.
    """

    def __init__(self, channel: Any, on_answer: Callable[[], bool]) -> None:
        super().__init__(channel, "TURN", on_answer)
        #: Delivery tags to acknowledge; other threads append to it.
        self.acks: deque[str] = deque()
        self._sent_acks: list[str] = []
        self._command: tuple[Any, ...] = ()
        self._known: list[Place] = []

    @property
    def owes_acks(self) -> bool:
        """Whether acknowledgements are not sent, or not confirmed."""
        return bool(self.acks or self._sent_acks)

    def take_acks(self) -> list[str]:
        """Return delivery tags to acknowledge now, first those that nobody has confirmed."""
        while self.acks and len(self._sent_acks) < ACKS:
            self._sent_acks.append(self.acks.popleft())
        return self._sent_acks

    def confirm_acks(self) -> None:
        """Forget those that were taken: Redis has them."""
        self._sent_acks = []

    def begin(self, places: Sequence[Place], room: int, width: int, moved: Sequence[tuple[Place, bytes]]) -> None:
        """Send it."""
        acks = self.take_acks()
        self._command, self._known = claim_command(self.channel.books, places, room, width, acks, moved)
        self.ask(*self._command)

    def end(self) -> tuple[int, list[Claimed]]:
        """Return what `read_answer` does, waiting for the answer if need be."""
        try:
            answer = self.answer()
        except NoScriptError:
            # Nothing has happened yet: the server has been restarted.
            self.ask(*CLAIM.text_command(self._command))
            answer = self.answer()
        self.confirm_acks()
        return read_answer(answer, self._known)
