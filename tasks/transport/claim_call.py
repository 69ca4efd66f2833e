"""The claim call: one script call that acknowledges, claims what was moved to `.claimed`, and claims more."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import time
from typing import Any, NamedTuple

from kombu.log import get_logger
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import NoScriptError, ResponseError

from pattern_storage.tasks.resp import bulk
from pattern_storage.tasks.transport.polled_connection import PolledConnection
from pattern_storage.tasks.transport.queue_keys import QueueKey, QueueKeys
from pattern_storage.tasks.transport.scripts import CLAIM

logger = get_logger(__name__)

#: Acknowledgements in one call: Lua takes some 8,000 arguments at a time.
MAX_ACKS = 1_000

#: Messages that blocking pops have moved to a `.claimed` list, each with the key it came from.
Moved = Sequence[tuple[QueueKey, bytes]]


class Claimed(NamedTuple):
    """A message that is this channel's to deliver: recorded as unacked, or taken for good."""

    queue_key: QueueKey
    #: Its delivery tag; empty if it needs no acknowledgement.
    tag: str
    raw: bytes


def claim_arguments(
    queue_keys: QueueKeys,
    limit: int,
    round_size: int = 1,
    acks: Sequence[str] = (),
    moved: Moved = (),
    early: Moved = (),
) -> tuple[QueueKeys, list[Any]]:
    """Return what a claim says.

    Args:
        queue_keys: what messages may be taken from, in that order.
        limit: how many messages at most; what has been moved beyond that goes back.
        round_size: how many queue keys share a round in which each gives one message.
        acks: delivery tags.
        moved: messages that blocking pops have moved.
        early: more of them, which are delivered without waiting for the reply: no limit puts them back.

    Returns:
        The queue keys that its reply counts from 1, and the script's arguments.
    """
    known = queue_keys
    if others := {one.key: one for one, _ in (*early, *moved) if one.key not in queue_keys.numbers}:
        known = QueueKeys((*queue_keys, *others.values()))
    number = known.numbers
    arguments: list[Any] = [
        time(), limit + len(early), len(queue_keys), round_size, known.recorded, known.free, len(acks), *acks
    ]  # fmt: skip
    # The higher priority first, in case the limit does not reach for all.
    for queue_key, raw in (*early, *sorted(moved, key=lambda one: number[one[0].key])):
        arguments += [number[queue_key.key], raw]
    return known, arguments


def claim_command(
    unacked_keys: Sequence[str], queue_keys: Iterable[QueueKey], limit: int, **options: Any
) -> tuple[tuple[Any, ...], QueueKeys]:
    """Return the command of a claim for redis-py, and the queue keys that its reply counts; see `claim_arguments`."""
    known, arguments = claim_arguments(QueueKeys(queue_keys), limit, **options)
    return CLAIM.command([*unacked_keys, *known.numbers], arguments), known


class ClaimReply(NamedTuple):
    """The reply to a claim."""

    #: Messages that are still waiting in the queues.
    waiting: int
    claimed: list[Claimed]
    #: Why it ended early, where it did; what it had claimed by then is claimed all the same.
    error: ResponseError | None


def read_reply(reply: Sequence[Any], known: Sequence[QueueKey]) -> ClaimReply:
    """Read the reply of the script."""
    waiting, unreadable, error, *found = reply
    if unreadable:
        logger.error("refused %d messages that are none of Celery's; kept in the lists *.unreadable", unreadable)
    threes = zip(found[::3], found[1::3], found[2::3], strict=True)
    claimed = [Claimed(known[n - 1], bytes_to_str(tag), raw) for n, tag, raw in threes]
    return ClaimReply(waiting, claimed, ResponseError(bytes_to_str(error)) if error else None)


class ClaimCall(PolledConnection):
    """The connection on which a channel claims, one call at a time.

    Acknowledgements go back on the list when the connection breaks: sending them twice does no harm.
    """

    def __init__(self, channel: Any, on_reply: Callable[[], bool]) -> None:
        super().__init__(channel, "CLAIM", on_reply)
        #: Delivery tags to acknowledge; other threads append to it.
        self.acks: deque[str] = deque()
        self._sent_acks: list[str] = []
        self._known = QueueKeys()
        self._arguments: list[Any] = []

    @property
    def has_unconfirmed_acks(self) -> bool:
        """Whether acknowledgements are not sent, or not confirmed."""
        return bool(self.acks or self._sent_acks)

    def take_acks(self) -> list[str]:
        """Return delivery tags to acknowledge now, first those that were sent and not confirmed."""
        while self.acks and len(self._sent_acks) < MAX_ACKS:
            self._sent_acks.append(self.acks.popleft())
        return self._sent_acks

    def confirm_acks(self) -> None:
        """Forget those that were taken: Redis has them."""
        self._sent_acks = []

    def begin(
        self,
        queue_keys: QueueKeys,
        limit: int,
        round_size: int,
        moved: Moved,
        early: Moved = (),
    ) -> None:
        """Send the call; see `claim_arguments`."""
        self._known, self._arguments = claim_arguments(queue_keys, limit, round_size, self.take_acks(), moved, early)
        keys = bulk(self.channel.unacked_keys) + self._known.packed
        self.send_packed(CLAIM.packed(2 + len(self._known), keys, self._arguments))

    def end(self) -> ClaimReply:
        """Return what `read_reply` does, waiting for the reply if need be."""
        try:
            reply = self.read()
        except NoScriptError:
            # Nothing has happened yet: the server has been restarted.
            keys = [*self.channel.unacked_keys, *self._known.numbers]
            self.send(*CLAIM.text_command(CLAIM.command(keys, self._arguments)))
            reply = self.read()
        self.confirm_acks()
        return read_reply(reply, self._known)
