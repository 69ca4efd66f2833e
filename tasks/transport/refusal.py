"""A server that refuses one kind of command for now: it is full, for example, or a script keeps it busy."""

from time import monotonic

from kombu.log import get_logger

from pattern_storage.tasks.redis_errors import ServerRefuses

logger = get_logger(__name__)

#: Seconds until a command that was refused is sent again.
RETRY_DELAY = 1.0


class Refusal:
    """Logs the first refusal and its end, and nothing between them.

    Args:
        action: what cannot be done meanwhile, for the log: "take messages".
    """

    def __init__(self, action: str) -> None:
        self._action = action
        self._since: float | None = None

    def begin(self, error: ServerRefuses) -> None:
        """Note that the server refused a command."""
        if self._since is None:
            logger.warning("cannot %s, and goes on trying: %s", self._action, error)
            self._since = monotonic()

    def end(self, sent_at: float | None) -> None:
        """Note that the server carried out a command which was sent at that time of the monotonic clock."""
        # A command that has waited on the server since before the refusal says nothing about it.
        if self._since is not None and sent_at is not None and sent_at > self._since:
            logger.warning("can %s again", self._action)
            self._since = None
