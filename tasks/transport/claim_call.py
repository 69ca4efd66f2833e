"""The claim call: one run of claim.lua that acknowledges, claims what was moved to `.claimed`, and claims more."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from kombu.log import get_logger
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import NoScriptError, ResponseError

from pattern_storage.tasks.resp import bulk
from pattern_storage.tasks.transport.polled_connection import REFUSED, PolledConnection
from pattern_storage.tasks.transport.queue_keys import QueueKey, QueueKeys
from pattern_storage.tasks.transport.refusal import Refusal
from pattern_storage.tasks.transport.scripts import CLAIM

logger = get_logger(__name__)

#: Messages that blocking pops have moved to a `.claimed` list, each with the key it came from.
Moved = Sequence[tuple[QueueKey, bytes]]


class Claimed(NamedTuple):
    """A message that is this channel's to deliver: recorded as unacked, or removed from Redis."""

    queue_key: QueueKey
    #: Its delivery tag; empty if it needs no acknowledgement.
    tag: str
    raw: bytes


class ClaimReply(NamedTuple):
    """The reply to a claim."""

    #: Number of messages that still wait in the queues.
    waiting: int
    claimed: list[Claimed]
    #: The error that ended the claim early, if any; the messages in `claimed` are claimed all the same.
    error: ResponseError | None


def claim_arguments(
    queue_keys: QueueKeys,
    limit: int,
    round_size: int = 1,
    acks: Sequence[str] = (),
    moved: Moved = (),
    early: Moved = (),
) -> tuple[QueueKeys, list[Any]]:
    """Return the queue keys that a claim counts from 1, and the arguments of its script.

    Args:
        queue_keys: the keys that messages may be taken from, in that order.
        limit: how many messages at most; what has been moved beyond that goes back.
        round_size: how many queue keys share a round in which each gives one message.
        acks: delivery tags.
        moved: messages that blocking pops have moved.
        early: more of them, which are delivered without waiting for the reply: no limit puts them back.
    """
    counted = queue_keys
    if others := {key.key: key for key, _ in (*early, *moved) if key.key not in queue_keys.numbers}:
        counted = QueueKeys((*queue_keys, *others.values()))
    numbers = counted.numbers
    arguments: list[Any] = [
        limit + len(early), len(queue_keys), round_size, counted.recorded, counted.free, len(acks), *acks
    ]  # fmt: skip
    # The higher priority first, in case the limit does not reach for all.
    for queue_key, raw in (*early, *sorted(moved, key=lambda message: numbers[message[0].key])):
        arguments += [numbers[queue_key.key], raw]
    return counted, arguments


def read_reply(reply: Sequence[Any], counted: QueueKeys) -> ClaimReply:
    """Read the reply of the script, which numbers the queue keys as `claim_arguments` has counted them."""
    waiting, unreadable, error, *rest = reply
    if unreadable:
        logger.error("refused %d messages that are none of Celery's; kept in the lists *.unreadable", unreadable)
    threes = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    claimed = [Claimed(counted[number - 1], bytes_to_str(tag), raw) for number, tag, raw in threes]
    return ClaimReply(waiting, claimed, ResponseError(bytes_to_str(error)) if error else None)


def claim(
    client: Any, unacked_keys: Sequence[str], queue_keys: Iterable[QueueKey], limit: int, **options: Any
) -> ClaimReply:
    """Claim on a client of redis-py, and wait for the reply; see `claim_arguments`."""
    counted, arguments = claim_arguments(QueueKeys(queue_keys), limit, **options)
    return read_reply(CLAIM.run(client, [*unacked_keys, *counted.numbers], arguments), counted)


class ClaimCall(PolledConnection):
    """The connection on which a channel claims, one call at a time."""

    def __init__(self, channel: Any, on_reply: Callable[[], bool]) -> None:
        super().__init__(channel, "CLAIM", on_reply, Refusal("take messages"))
        self._counted = QueueKeys()
        self._arguments: list[Any] = []

    def begin(
        self, queue_keys: QueueKeys, limit: int, round_size: int, acks: list[str], moved: Moved, early: Moved
    ) -> None:
        """Send the call; see `claim_arguments`."""
        self._counted, self._arguments = claim_arguments(queue_keys, limit, round_size, acks, moved, early)
        keys = bulk(self.channel.unacked_keys) + self._counted.packed
        self.send_packed(CLAIM.packed(2 + len(self._counted), keys, self._arguments))

    def end(self) -> ClaimReply | None:
        """Return the reply, waiting for it if need be; None if the server refuses the claim for now."""
        try:
            reply = self.read()
        except NoScriptError:
            # Nothing has happened yet: the server has been restarted.
            keys = [*self.channel.unacked_keys, *self._counted.numbers]
            self.send("EVAL", CLAIM.text, len(keys), *keys, *self._arguments)
            reply = self.read()
        return None if reply is REFUSED else read_reply(reply, self._counted)
