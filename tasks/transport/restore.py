"""Redelivery of messages that were moved and never claimed, or claimed and neither acknowledged nor renewed in time."""

from collections.abc import Collection, Iterable
from typing import Any

from kombu.log import get_logger
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps

from pattern_storage.tasks.transport.message import Unreadable, load
from pattern_storage.tasks.transport.scripts import OVERDUE, PUT_ASIDE, RESTORE, SWEEP

logger = get_logger(__name__)

#: kombu's own names of the hash of unacked messages and of its index, which all applications of a database share.
SHARED_KEYS = ("unacked", "unacked_index")

#: Seconds after which messages of earlier versions' workers are redelivered: they do not renew what they hold.
EARLIER_TIMEOUT = 600.0


def restore(
    channel: Any,
    keys: tuple[str, str],
    tag: str,
    leftmost: bool = False,
    queues: Collection[str] | None = None,
    begun: bool = True,
) -> None:
    """Put one unacked message back, unless it is gone, or belongs to other queues than these.

    It is marked as redelivered unless nobody can have begun to work on it. A message that cannot be read is put aside;
    kombu forgets it, and prints it into the log.
    """
    client = channel.plain_client
    entry = client.hget(keys[0], tag)
    if entry is None:
        if queues is None:
            # In a script: a claim that comes now may record the message.
            RESTORE.run(client, [*keys], [tag, "", "", ""])
        return
    try:
        message, exchange, routing_key = load(entry)
        # Bindings may be missing, as where the server was full; kombu then drops the message. A closed channel, whose
        # jobs may end later and be handed back, cannot look them up.
        names = (channel._lookup(exchange, routing_key) if channel.connection is not None else ()) or [routing_key]
        priority = channel._get_message_priority(message, reverse=False)
        message["headers"] = message.get("headers") or {}
        for part in (message["headers"], message["properties"]["delivery_info"]) if begun else ():
            part["redelivered"] = True
        where = [f"{channel.global_keyprefix}{channel._q_for_pri(name, priority)}" for name in names]
    # An entry other than `[message, exchange, routing key]`, which any application may have written.
    except (Unreadable, ValueError, TypeError, LookupError, AttributeError) as error:
        if queues is None:
            PUT_ASIDE.run(client, [*keys, keys[0]], [tag, entry])
            logger.error(
                "refused an unacked message that cannot be read (%s); kept in the Redis list %s.unreadable",
                type(error).__name__, keys[0],
            )  # fmt: skip
        return
    if queues is not None and not set(names) <= set(queues):
        return
    push = "LPUSH" if leftmost else "RPUSH"
    RESTORE.run(client, [*keys, *where], [tag, entry, dumps(message), push])


def sweep(channel: Any, queues: Iterable[str]) -> None:
    """Put back the messages in the `.claimed` lists of these queues, left there by workers that ended."""
    if keys := [queue_key.key for queue_key in channel.queue_keys(queues) if queue_key.needs_ack]:
        SWEEP.run(channel.plain_client, [*channel.unacked_keys, *keys], [])
        carry_over(channel)


def overdue(channel: Any, keys: tuple[str, str], seconds: float, limit: int = -1) -> list[str]:
    """Return the tags of messages under these keys that were not renewed for so many seconds; -1 is no limit."""
    tags = OVERDUE.run(channel.plain_client, [*keys], [seconds, limit])
    return [bytes_to_str(tag) for tag in tags]


def carry_over(channel: Any) -> None:
    """Put back the messages of our queues that workers of earlier versions left under kombu's own names."""
    unacked, index = SHARED_KEYS
    keys = f"{channel.global_keyprefix}{unacked}", f"{channel.global_keyprefix}{index}"
    if keys == channel.unacked_keys:
        return
    ours = channel.active_queues
    for tag in overdue(channel, keys, max(channel.visibility_timeout, EARLIER_TIMEOUT)):
        restore(channel, keys, tag, queues=ours)
