"""Conditional store of task states: one atomic step in Redis, so that no state replaces a final one.

Every writer uses it: the workers' result backend for all states, the clients for REVOKED. Only the client's QUEUED
marker is a plain SET NX.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from importlib.resources import files
from itertools import groupby
from typing import Any, NamedTuple

import redis
from redis.client import Pipeline
from redis.exceptions import RedisError

from pattern_storage.tasks.redis_errors import code_of
from pattern_storage.tasks.resp import Argument, pack
from pattern_storage.tasks.wire import Wire, Wires
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

    def ask(command: str, script: str) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(*_command(command, script, call))  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=False)

    return _store(ask, calls)


class PackedStates(NamedTuple):
    """States as they are sent."""

    calls: list[list[State]]
    packed: bytes


def pack_states(states: Sequence[State]) -> PackedStates:
    """Pack states for `store_packed`."""
    calls = list(_calls(states))
    return PackedStates(calls, _pack("EVALSHA", DIGEST, calls))


def store_packed(wires: Wires[Wire], timeout: float, states: PackedStates) -> list[RedisError | None]:
    """Do the same in half of the time, for the worker, whose every job waits for it; `timeout` in seconds.

    Raises OSError as well.
    """

    def ask(command: str, script: str) -> list[Any]:
        packed = states.packed if script == DIGEST else _pack(command, script, states.calls)
        return wires.ask(packed, len(states.calls), timeout)

    return _store(ask, states.calls)


def is_observed() -> bool:
    """Whether instrumentation, such as OpenTelemetry's, has wrapped redis-py to see each command."""
    return hasattr(Pipeline.execute, "__wrapped__")


def _store(ask: Callable[[str, str], list[Any]], calls: Sequence[list[State]]) -> list[RedisError | None]:
    """Ask for a command with a script; return the answer to each state."""
    replies = ask("EVALSHA", DIGEST)
    if any(isinstance(reply, RedisError) and code_of(reply) == "NOSCRIPT" for reply in replies):
        # A server that was restarted has lost the script.
        replies = ask("EVAL", SCRIPT)
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


def _command(name: str, script: str, call: Sequence[State]) -> tuple[Argument, ...]:
    keys, documents, (state, *_), (seconds, *_) = zip(*call, strict=True)
    return (name, script, len(keys), *keys, int(seconds or 0), int(state in FINAL_STATES), *documents)


def _pack(command: str, script: str, calls: Sequence[Sequence[State]]) -> bytes:
    return b"".join(pack(*_command(command, script, call)) for call in calls)
