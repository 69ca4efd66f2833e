"""Conditional store of task states: one atomic step in Redis, so that no state takes a final one back.

Every writer uses it: the workers' result backend for all states, the clients for REVOKED. Only the client's QUEUED
marker needs no more than SET NX.
"""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import NoScriptError, RedisError

from pattern_storage.vocabulary import FINAL_STATES

SCRIPT = files(__package__).joinpath("result_state_store.lua").read_text()
# The name Redis gives a script, not a secret.
DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

#: Result key, document, state, and seconds to live (None: for ever).
State = tuple[str | bytes, str | bytes, str, int | None]


def store(client: "redis.Redis", states: Sequence[State]) -> list[RedisError | None]:
    """Store the states in one round trip; return for each of them what Redis refused it with, None if nothing.

    A state that would take back a final one is left out, which is no error. Raises RedisError if the connection is
    lost: then any part may have been stored, and storing all again does no harm.
    """
    replies = _send(client, "EVALSHA", DIGEST, states)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        # A server that was restarted does not know the script.
        replies = _send(client, "EVAL", SCRIPT, states)
    return [reply if isinstance(reply, RedisError) else None for reply in replies]


def _send(client: "redis.Redis", command: str, script: str, states: Sequence[State]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for key, document, state, seconds in states:
            pipeline.execute_command(  # type: ignore[no-untyped-call]
                command, script, 1, key, document, int(seconds or 0), int(state in FINAL_STATES)
            )
        return pipeline.execute(raise_on_error=False)
