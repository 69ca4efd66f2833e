"""What a channel has claimed: when it takes a turn, when it waits, and how it leaves nothing behind."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from kombu.log import get_logger
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from pattern_storage.tasks.transport.blocking_pop import Waits
from pattern_storage.tasks.transport.claim_call import Claimed, Turn, claim_command
from pattern_storage.tasks.transport.scripts import CLAIM, RELEASE, SWEEP

logger = get_logger(__name__)

#: Seconds. An event loop that turned that lately turns again soon enough to carry an acknowledgement.
LIVELY = 0.05


class Claims:
    """The claims of one channel. See `tasks.transport.transport` for the protocol."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._waits = Waits(channel)
        self._turn = Turn(channel, self._on_turn)
        # Claimed, not delivered yet.
        self._ready: deque[Claimed] = deque()
        # Whether the last turn left nothing in the queues, so that waiting is all there is to do.
        self._quiet = False
        self._worked_at = self._swept_at = 0.0
        self._thread = 0
        #: The message that is being delivered, which has been recorded as unacknowledged.
        self.recorded_tag: str | None = None

    @property
    def lines(self) -> list[Any]:
        """All connections."""
        return [self._turn, *self._waits.lines]

    @property
    def _ahead(self) -> bool:
        return bool(self._channel.claim_ahead) and self._channel.connection.cycle.hub is not None

    def _room(self) -> int:
        """How many messages may be claimed now."""
        qos = self._channel.qos
        if not qos.can_consume():
            return 0
        # Celery's `worker_disable_prefetch` puts its own `can_consume` there, which says yes to one more at a time.
        limit = self._channel.claim_limit if self._ahead and "can_consume" not in vars(qos) else 1
        estimate = qos.can_consume_max_estimate()
        return max(min(limit, limit if estimate is None else estimate) - len(self._ready), 0)

    # --- with an answer to come ---

    def work(self) -> None:
        """Send a turn or begin to wait, as there is need. Called before each poll; waits for no answer."""
        if not self._channel.active_queues:
            return
        self._thread, self._worked_at = threading.get_ident(), monotonic()
        room = self._room()
        if not room:
            self.stand_down()
        if self._turn.busy:
            return
        if self._waits.refused:
            self._waits.refused = self._quiet = False
        if self._waits.moved or self._turn.owes_acks or (room and not self._quiet):
            self._begin_turn(room)
        elif room:
            self._waits.begin(self._channel.places(self._channel.active_queues))

    def _begin_turn(self, room: int) -> None:
        queues = self._channel.next_queues() if room else []
        # Round robin between queues of one priority; in any other order a queue waits until those before are empty.
        width = max(len(queues), 1) if self._channel.queue_order_strategy == "round_robin" else 1
        moved, self._waits.moved = self._waits.moved, []
        self._turn.begin(self._channel.places(queues), room, width, moved)

    def _end_turn(self) -> None:
        waiting, claimed = self._turn.end()
        self._quiet = not waiting
        self._ready.extend(claimed)

    def _on_turn(self) -> bool:
        self._end_turn()
        return self.deliver()

    def deliver(self) -> bool:
        """Deliver what is ready, or only one message to a consumer that works inside its callback."""
        if self._ready and not self._ahead:
            # Nobody reads answers while the consumer works.
            self.stand_down()
        delivered = False
        while self._ready and (self._ahead or not delivered):
            claimed = self._ready.popleft()
            if claimed.place.queue not in self._channel.active_queues:
                self._release([claimed])
                continue
            message = loads(bytes_to_str(claimed.raw))
            self.recorded_tag = message["properties"]["delivery_tag"] if claimed.place.recorded else None
            delivered = True
            try:
                self._channel.deliver(message, claimed.place.queue)
            finally:
                self.recorded_tag = None
        return delivered

    # --- acknowledgements ---

    def collect_ack(self, tag: str) -> bool:
        """Take an acknowledgement along with the next turn, if that is milliseconds away. Returns whether it is."""
        if self._channel.closing or monotonic() - self._worked_at > LIVELY or not self._ahead:
            return False
        self._turn.acks.append(tag)
        return True

    def wake(self) -> None:
        """Have the event loop look, if this is another thread: a pool of threads acknowledges from its own."""
        if threading.get_ident() != self._thread:
            self._channel.connection.cycle.hub.call_soon(lambda: None)

    # --- without leaving anything behind ---

    def stand_down(self) -> None:
        """End all waiting now, and put back what was moved meanwhile."""
        if not self._waits.busy and not self._waits.moved:
            return
        self._quiet = False
        self._waits.end()
        self._settle()

    def _settle(self) -> None:
        """Put back what was moved and send all acknowledgements, on a connection that no event loop has to know."""
        while self._waits.moved or self._turn.owes_acks:
            moved, self._waits.moved = self._waits.moved, []
            command, _ = claim_command(self._channel.books, [], 0, acks=self._turn.take_acks(), moved=moved)
            CLAIM.send(self._channel.plain_client, command)
            self._turn.confirm_acks()

    def rest(self) -> None:
        """Leave nothing claimed that is not delivered, and nothing acknowledged that is not sent."""
        for step in self.last_steps:
            step()
        self._quiet = False

    @property
    def last_steps(self) -> tuple[Callable[[], None], ...]:
        """What `rest` does; when a connection has broken, what the others can still do is worth doing."""
        return self._finish_turn, self.stand_down, self._release_ready, self._settle

    def _finish_turn(self) -> None:
        if self._turn.busy:
            self._end_turn()

    def _release_ready(self) -> None:
        if self._ready:
            self._release(list(self._ready))
            self._ready.clear()

    def _release(self, messages: list[Claimed]) -> None:
        arguments: list[Any] = []
        for place, raw in messages:
            arguments += [loads(bytes_to_str(raw))["properties"]["delivery_tag"] if place.recorded else "", raw]
        keys = [*self._channel.books, *(message.place.key for message in messages)]
        RELEASE.run(self._channel.plain_client, keys, arguments)

    def sweep(self, queues: Iterable[str] | None = None) -> None:
        """Put back what workers moved and could not settle: in these queues, or now and then in all we consume."""
        if queues is None:
            # Half: the timer that calls has the same period, and is never exact.
            if monotonic() - self._swept_at < self._channel.unacked_restore_interval / 2:
                return
            self._swept_at = monotonic()
            queues = self._channel.active_queues
        if keys := [place.key for place in self._channel.places(queues) if place.recorded]:
            SWEEP.run(self._channel.plain_client, keys, [])

    def started(self, queue: str) -> None:
        """Begin to consume from a queue with what a killed worker may have left of it."""
        self.sweep([queue])
        self._quiet = False

    def stopped(self) -> None:
        """Let go of the queues that are no longer consumed from."""
        self.rest()
        self._waits.forget_all_but(self._channel.places(self._channel.active_queues))

    def drop_dead_lines(self, patience: float) -> None:
        """End connections that owe an answer for `patience` seconds."""
        for line in self.lines:
            if line.hang_up_if_dead(patience):
                logger.warning("%s: no answer from Redis for %.0f s, connecting again", line.name, patience)
