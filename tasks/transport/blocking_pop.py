"""Blocking pops: for each queue key that is not watched, a connection that waits on the server for a message."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from kombu.log import get_logger
from redis.exceptions import ResponseError

from pattern_storage.tasks.transport.polled_connection import REFUSED, PolledConnection
from pattern_storage.tasks.transport.queue_keys import QueueKey
from pattern_storage.tasks.transport.refusal import Refusal

logger = get_logger(__name__)

#: Seconds to look for the reply of a pop that CLIENT UNBLOCK did not wake; it is there unless the server has not
#: begun the command.
UNBLOCK_POLL = 0.001
#: Seconds for all unblocked pops together to reply: the event loop does nothing else meanwhile.
UNBLOCK_TIMEOUT = 1.0


class BlockingPop(PolledConnection):
    """A connection that waits for a message under one queue key and moves it to the `.claimed` list beside it.

    For a consumer without acknowledgements it is kombu's BRPOP, which removes the message for good.
    """

    def __init__(self, channel: Any, queue_key: QueueKey, pops: "BlockingPops") -> None:
        super().__init__(channel, f"BLMOVE {queue_key.key}", self.end, pops.refusal)
        self.queue_key = queue_key
        self.pops = pops
        self.client_id = 0

    def on_connected(self) -> None:
        """Ask for the client id, by which another connection can unblock this one."""
        self.connection.send_command("CLIENT", "ID")
        self.client_id = self.connection.read_response()

    def begin(self, timeout: float) -> None:
        """Wait on the server, `timeout` seconds at most (0: without a limit)."""
        if self.queue_key.needs_ack:
            self.send("BLMOVE", self.queue_key.key, f"{self.queue_key.key}.claimed", "RIGHT", "LEFT", timeout)
        else:
            self.send("BRPOP", self.queue_key.key, timeout)

    def end(self) -> bool:
        """Read the reply: a moved message, or nothing. Returns whether it was delivered at once."""
        reply = self.read()
        if reply is REFUSED:
            # A full server refuses to move a message, and still lets a claim take one.
            self.pops.refused = True
            return False
        if reply is None:
            return False
        if self.pops.deliver_early(self.queue_key, reply):
            return True
        self.pops.moved.append((self.queue_key, reply if self.queue_key.needs_ack else reply[1]))
        return False


class BlockingPops:
    """All blocking pops of a channel.

    Args:
        channel: the channel.
        deliver_early: called with each moved message; returns whether it has delivered it, before a claim recorded it.
    """

    def __init__(self, channel: Any, deliver_early: Callable[[QueueKey, Any], bool]) -> None:
        self._channel = channel
        self.deliver_early = deliver_early
        self._by_key: dict[str, BlockingPop] = {}
        #: Messages that were moved to a `.claimed` list and that no claim has taken from there yet.
        self.moved: list[tuple[QueueKey, bytes]] = []
        #: Set when the server has refused one.
        self.refused = False
        self.refusal = Refusal("wait for messages")

    @property
    def connections(self) -> list[BlockingPop]:
        """All of them, waiting or not."""
        return list(self._by_key.values())

    @property
    def pending(self) -> list[BlockingPop]:
        """Those that wait now."""
        return [pop for pop in self._by_key.values() if pop.pending]

    def begin(self, queue_keys: Iterable[QueueKey]) -> None:
        """Wait under each of these keys that is not waited for yet."""
        now = monotonic()
        for queue_key in queue_keys:
            pop = self._by_key.get(queue_key.key)
            if pop is None or pop.queue_key.needs_ack != queue_key.needs_ack:
                if pop is not None:
                    pop.disconnect()
                pop = self._by_key[queue_key.key] = BlockingPop(self._channel, queue_key, self)
            if not pop.pending and pop.retry_at <= now:
                pop.begin(self._channel.brpop_timeout)

    def end(self) -> None:
        """Unblock all that wait. Each replies exactly once: with nothing, or with the message that it had just moved.

        A pop that does not, because its connection is dead or its reply was lost on the way, is disconnected.
        """
        deadline = monotonic() + UNBLOCK_TIMEOUT
        while pending := self.pending:
            with self._channel.plain_client.pipeline(transaction=False) as pipe:
                for pop in pending:
                    pipe.client_unblock(pop.client_id)
                woken = pipe.execute(raise_on_error=False)
            for pop, reply in zip(pending, woken, strict=True):
                if isinstance(reply, ResponseError):
                    # Forbidden. What the server moves before it sees the disconnection returns with a sweep.
                    pop.disconnect()
                elif pop.readable(max(deadline - monotonic(), 0.0) if reply else UNBLOCK_POLL):
                    pop.end()
                # Not woken, and nothing to read: its command is still on the way. Ask again.
                elif monotonic() >= deadline:
                    # What it may have moved returns with a sweep.
                    logger.warning("%s: no answer from Redis for %.0f s, connecting again", pop.name, UNBLOCK_TIMEOUT)
                    pop.disconnect()

    def close_others(self, queue_keys: Iterable[QueueKey]) -> None:
        """Close the connections of all keys but these."""
        for key in self._by_key.keys() - {queue_key.key for queue_key in queue_keys}:
            self._by_key.pop(key).disconnect()
