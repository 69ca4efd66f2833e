"""Error replies that pass, and those that do not, as redis-py reads them off the wire."""

from typing import Any

import pytest
from amqp.exceptions import AccessRefused, RecoverableConnectionError
from redis._parsers.base import BaseParser
from redis.exceptions import AuthenticationError, ConnectionError, TimeoutError  # noqa: A004

from pattern_storage.tasks.redis_errors import PASSING, explain_failure, is_passing, passing

REPLIES: Any = BaseParser

PASS = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "ERR max number of clients reached",
    "ERR Error running script (call to f_a): @user_script:3: @user_script: 3: -OOM command not allowed when used",
    "ERR Error running script (call to f_a): @user_script: 14: -MISCONF Errors writing to the AOF file",
    "OOM command not allowed when used memory > 'maxmemory'. script: 3af1, on @user_script:14.",
]
FINAL = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOPERM User x has no permissions to run the 'hset' command",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "ERR unknown command 'FOO'",
    "ERR DB index is out of range",
    "MOVED 3999 127.0.0.1:6381",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "NOSCRIPT No matching script.",
    "EXECABORT Transaction discarded because of previous errors.",
]


@pytest.mark.parametrize("reply", PASS)
def test_passing(reply: str) -> None:
    error = REPLIES.parse_error(reply)
    assert is_passing(error)
    refusal = passing(error)
    assert refusal is not None
    assert isinstance(refusal, ConnectionError), "kombu and Celery wait for those"
    assert str(refusal).startswith("Redis refuses for now, because ")


@pytest.mark.parametrize("reply", [one for one in PASS if "ERR" not in one])
def test_passing_without_the_code(reply: str) -> None:
    """redis-py before version 8 cuts it off, and keeps it nowhere."""
    error = REPLIES.parse_error(reply)
    error.status_code = None
    refusal = passing(error)
    assert refusal is not None
    assert refusal.code == reply.partition(" ")[0]


@pytest.mark.parametrize("reply", FINAL)
def test_final(reply: str) -> None:
    error = REPLIES.parse_error(reply)
    assert not is_passing(error)
    assert passing(error) is None


def test_a_server_that_is_away_may_come_back() -> None:
    assert is_passing(ConnectionError("refused"))
    assert is_passing(TimeoutError("slow"))
    assert is_passing(ConnectionRefusedError())
    assert not is_passing(AuthenticationError("invalid password"))
    assert not is_passing(ValueError())
    assert all(code.isupper() for code in PASSING)


@pytest.mark.parametrize("reply", PASS + FINAL)
def test_an_answer_is_not_called_silence(reply: str) -> None:
    error = REPLIES.parse_error(reply)
    assert explain_failure("the queue", error) == f"the queue refuses this: {error}"


@pytest.mark.parametrize("error", [ConnectionError("Connection refused"), TimeoutError("late"), OSError("no route")])
def test_a_server_that_is_away_does_not_answer(error: Exception) -> None:
    assert explain_failure("the queue", error) == f"the queue does not answer: {error}"


def test_a_wrong_password_is_an_answer_of_rabbitmq_too() -> None:
    refused = AccessRefused("Login was refused", (0, 0), "")
    assert explain_failure("the queue", refused).startswith("the queue refuses this: ")
    assert explain_failure("the queue", RecoverableConnectionError("lost")) == "the queue does not answer: lost"
