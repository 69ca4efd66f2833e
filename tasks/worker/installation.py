"""The installation of a worker: asked for by `pattern-storage doctor` through remote control, and signed in Redis.

Workers of two installations on one broker without prefixes of their own take each other's jobs, and nothing fails.
"""

from contextlib import suppress
from typing import Any

from celery.worker.control import inspect_command

from pattern_storage.storage import installation
from pattern_storage.storage.installation import Installation
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks import installation_signs

#: The installation of this process according to its last connection to PostgreSQL, in a list of one.
_found: list[Installation | None] = [None]


async def learn(connection: Connection) -> None:
    """Ask PostgreSQL for the installation; if it cannot answer, or the role may not ask, keep the last answer."""
    with suppress(Exception):
        _found[0] = await installation.find(connection)


@inspect_command(name=installation_signs.COMMAND)
def tell(_: Any) -> list[str] | None:
    """Return server, database and schema of the tables that this worker writes, None as long as they are unknown."""
    return None if _found[0] is None else list(_found[0])


def sign(consumer: Any) -> None:
    """Leave a sign of the installation in a broker that is Redis; to be called on the thread of the consumer.

    Nothing depends on it: a server that refuses it simply has none.
    """
    with suppress(Exception):
        channel = consumer.task_consumer.channel
        if _found[0] is not None and hasattr(channel, "plain_client"):
            installation_signs.sign(channel.plain_client, channel.global_keyprefix, _found[0])
