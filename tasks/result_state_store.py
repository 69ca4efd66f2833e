"""Conditional store of task states: one atomic step in Redis, so that no state replaces a final one.

Every writer uses it: the workers' result backend for all states, the clients for REVOKED. Only the client's QUEUED
marker is a plain SET NX.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha1
from importlib.resources import files
from itertools import groupby
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import NoScriptError, RedisError, ResponseError

from pattern_storage.tasks.resp import pack
from pattern_storage.vocabulary import FINAL_STATES

SCRIPT = files(__package__).joinpath("result_state_store.lua").read_text()
# Redis' name of the script, not a secret.
DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

#: Largest number of states in one call of the script, during which the server does nothing else.
MAX_STATES = 100

#: Result key, document, state, and lifetime in seconds (None: no limit).
State = tuple[str | bytes, str | bytes, str, int | None]


def store(client: "redis.Redis", states: Sequence[State]) -> list[RedisError | None]:
    """Store the states in one round trip; return for each of them the error reply, None if there is none.

    A state that would replace a final one is skipped, which is not an error. Raises RedisError if the connection is
    lost: then any of the states may have been stored, and storing all again does no harm.
    """
    calls = list(_calls(states))
    replies = _send(client, "EVALSHA", DIGEST, calls)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        # A server that was restarted has lost the script.
        replies = _send(client, "EVAL", SCRIPT, calls)
    answers = [
        answer for reply, call in zip(replies, calls, strict=True)
        # A call may be refused as a whole, as by a replica.
        for answer in (reply if isinstance(reply, list) else [reply] * len(call))
    ]  # fmt: skip
    return [answer if isinstance(answer, RedisError) else None for answer in answers]


def _calls(states: Sequence[State]) -> Iterator[list[State]]:
    """Split the states into calls of the script, which takes states of one lifetime, all final or none."""
    for _, alike in groupby(states, key=lambda state: (state[3], state[2] in FINAL_STATES)):
        run = list(alike)
        yield from (run[first : first + MAX_STATES] for first in range(0, len(run), MAX_STATES))


def _send(client: "redis.Redis", command: str, script: str, calls: Sequence[list[State]]) -> list[Any]:
    commands: list[tuple[Any, ...]] = []
    for call in calls:
        keys, documents, (state, *_), (seconds, *_) = zip(*call, strict=True)
        final = int(state in FINAL_STATES)
        commands.append((command, script, len(keys), *keys, int(seconds or 0), final, *documents))
    # Instrumentation, such as OpenTelemetry's, wraps the method to see each command.
    if hasattr(Pipeline.execute, "__wrapped__"):
        with client.pipeline(transaction=False) as pipeline:
            for arguments in commands:
                pipeline.execute_command(*arguments)  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=False)
    packed = b"".join(pack(*arguments) for arguments in commands)
    # The same as redis-py's pipeline, which packs commands more slowly; with the retries of the connection.
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        return connection.retry.call_with_retry(  # type: ignore[no-any-return]
            lambda: _exchange(connection, packed, len(commands)), lambda error: connection.disconnect()
        )
    finally:
        pool.release(connection)


def _exchange(connection: Any, packed: bytes, number: int) -> list[Any]:
    connection.send_packed_command([packed])
    replies: list[Any] = []
    for _ in range(number):
        try:
            replies.append(connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
