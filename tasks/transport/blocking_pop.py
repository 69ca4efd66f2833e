"""Waiting for messages: one connection for each queue and priority, so that none is looked at before another."""

from collections.abc import Iterable
from time import monotonic
from typing import Any, NamedTuple

from kombu.log import get_logger
from redis.exceptions import OutOfMemoryError, ResponseError

from pattern_storage.tasks.transport.polled_connection import Line

logger = get_logger(__name__)

#: Seconds until a wait that the server refused is tried again.
REST = 1.0
#: Seconds to look for the answer of a wait that was told to end; it is there unless the server had not begun it.
GLANCE = 0.001
#: Seconds for all waits together to answer when they are told to end: the event loop does nothing else meanwhile.
PATIENCE = 1.0


class Place(NamedTuple):
    """One priority of one queue."""

    queue: str
    #: The Redis key, with the global prefix.
    key: str
    #: Whether its messages are recorded until they are acknowledged.
    recorded: bool


class Wait(Line):
    """Waits for a message in one place, and moves it to the `claimed` list beside the queue.

    For a consumer without acknowledgements, which takes messages away for good, it is kombu's BRPOP.
    """

    def __init__(self, channel: Any, place: Place, waits: "Waits") -> None:
        super().__init__(channel, f"WAIT {place.key}", self.end)
        self.place = place
        self.waits = waits
        self.client_id = 0
        self.rests_until = 0.0

    def on_connected(self) -> None:
        """Learn the number by which another connection can end the waiting."""
        self.connection.send_command("CLIENT", "ID")
        self.client_id = self.connection.read_response()

    def begin(self, timeout: float) -> None:
        """Wait on the server, `timeout` seconds at most (0: for ever)."""
        if self.place.recorded:
            self.ask("BLMOVE", self.place.key, f"{self.place.key}.claimed", "RIGHT", "LEFT", timeout)
        else:
            self.ask("BRPOP", self.place.key, timeout)

    def end(self) -> bool:
        """Read what came of it: a message to settle, or nothing. Returns False: it delivers none."""
        try:
            answer = self.answer()
        except OutOfMemoryError as error:
            # A full server refuses to move a message, and still lets a turn take one.
            logger.warning("Redis refuses to wait for %s: %s", self.place.key, error)
            self.rests_until = monotonic() + REST
            self.waits.refused = True
            return False
        if answer is not None:
            self.waits.moved.append((self.place, answer if self.place.recorded else answer[1]))
        return False


class Waits:
    """All waits of a channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._by_key: dict[str, Wait] = {}
        #: What was moved and is not settled yet.
        self.moved: list[tuple[Place, bytes]] = []
        #: Set when the server has refused one.
        self.refused = False

    @property
    def lines(self) -> list[Wait]:
        """All of them, waiting or not."""
        return list(self._by_key.values())

    @property
    def busy(self) -> list[Wait]:
        """Those that wait now."""
        return [wait for wait in self._by_key.values() if wait.busy]

    def begin(self, places: Iterable[Place]) -> None:
        """Wait in each of these places where nobody waits yet."""
        now = monotonic()
        for place in places:
            wait = self._by_key.get(place.key)
            if wait is None or wait.place.recorded != place.recorded:
                if wait is not None:
                    wait.hang_up()
                wait = self._by_key[place.key] = Wait(self._channel, place, self)
            if not wait.busy and wait.rests_until <= now:
                wait.begin(self._channel.brpop_timeout)

    def end(self) -> None:
        """End all waiting now. Each wait answers exactly once: with nothing, or with what it had just moved.

        One that does not, because its connection is dead or its answer was lost on the way, is cut off.
        """
        deadline = monotonic() + PATIENCE
        while busy := self.busy:
            with self._channel.plain_client.pipeline(transaction=False) as pipe:
                for wait in busy:
                    pipe.client_unblock(wait.client_id)
                answers = pipe.execute(raise_on_error=False)
            for wait, answer in zip(busy, answers, strict=True):
                if isinstance(answer, ResponseError):
                    # Not allowed to: what is moved before the server sees the end of it returns with a sweep.
                    wait.hang_up()
                elif wait.readable(max(deadline - monotonic(), 0.0) if answer else GLANCE):
                    wait.end()
                # Not woken, and nothing to read: its command is still on the way. Ask again.
                elif monotonic() >= deadline:
                    # What it may have moved returns with a sweep.
                    logger.warning("%s: no answer from Redis for %.0f s, connecting again", wait.name, PATIENCE)
                    wait.hang_up()

    def forget_all_but(self, places: Iterable[Place]) -> None:
        """Close the connections of all other places."""
        for key in self._by_key.keys() - {place.key for place in places}:
            self._by_key.pop(key).hang_up()
