"""The installation of a worker: told to `pattern-storage doctor` by remote control, and signed in Redis.

Workers of two installations on one broker without prefixes of their own take each other's jobs, and nothing fails.
"""

from contextlib import suppress
from typing import Any

from celery.worker.control import inspect_command

from pattern_storage.storage import installation
from pattern_storage.storage.installation import Installation
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks import installation_signs

#: Of this process, as the last connection to PostgreSQL found it.
_found: list[Installation | None] = [None]


async def learn(connection: Connection) -> None:
    """Find out once more; a role that may not ask, or a server that is away, leaves what was known."""
    with suppress(Exception):
        _found[0] = await installation.find(connection)


@inspect_command(name=installation_signs.COMMAND)
def tell(_: Any) -> list[str] | None:
    """Return server, database and schema of the tables that this worker writes, None as long as it does not know."""
    return None if _found[0] is None else list(_found[0])


def sign(consumer: Any) -> None:
    """Leave a sign of it in Redis, where the broker is one; call it on the thread of the consumer.

    It is only told: a server that refuses it has had none.
    """
    with suppress(Exception):
        channel = consumer.task_consumer.channel
        if _found[0] is not None and hasattr(channel, "plain_client"):
            installation_signs.sign(channel.plain_client, channel.global_keyprefix, _found[0])
