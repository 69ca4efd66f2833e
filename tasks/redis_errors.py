"""Error replies of Redis and Valkey, sorted in one place: those that pass by waiting, and those that do not.

A server that refuses for now is up: it is full, cannot save, has lost its replicas, loads its data, runs a script, or
hands over to another. It has not done what it refused. A service then waits, and neither ends nor calls a job failed.
"""

import re
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

#: Error codes that pass, with the state of the server that each tells of.
PASSING = {
    "OOM": "it is full",
    "MISCONF": "it cannot save to disk",
    "NOREPLICAS": "too few replicas are connected",
    "READONLY": "it is a replica",
    "LOADING": "it is loading its data",
    "BUSY": "it runs a script",
    "UNKILLABLE": "it runs a script",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "UNBLOCKED": "it has become a replica",
    "TRYAGAIN": "it is moving keys",
    "CLUSTERDOWN": "its cluster is down",
    "REDIRECT": "it hands over to another",
    "FAILOVER": "it hands over to another",
    "NOQUORUM": "its Sentinels do not agree",
    "INPROG": "a failover is in progress",
}

#: Codes after which the same address leads to another server, or to this one in another role.
MOVED = frozenset({"READONLY", "UNBLOCKED", "REDIRECT", "FAILOVER"})

#: Codes after which a new connection may be accepted: the user's password was changed, or has expired.
LOGGED_OUT = frozenset({"NOAUTH", "WRONGPASS"})

#: Texts of errors without a code that pass.
PASSING_TEXTS = ("max number of clients reached", "maxclients", "failover in progress")

#: redis-py's classes of errors, with the codes that it cuts off.
_CLASSES: dict[type[BaseException], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    NoScriptError: "NOSCRIPT",
    TryAgainError: "TRYAGAIN",
    ClusterDownError: "CLUSTERDOWN",
}

#: Errors that are an answer, a wrong password for example; redis-py derives some of them from ConnectionError.
ANSWERS = (ResponseError, AuthenticationError, AuthorizationError)
#: RabbitMQ's code for a wrong password.
ACCESS_REFUSED = 403

#: Before Redis 7 the error of a script has the code of the command that failed within its text.
_IN_SCRIPT = re.compile(r"user_script: ?\d+: -?([A-Z]+) ")


class ServerRefuses(ConnectionError):
    """A server that is up refuses for now. kombu and Celery take it for a connection error: they wait and try again."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"Redis refuses for now, because {PASSING.get(code, 'it has too many clients')}: {text}")

    @property
    def has_moved(self) -> bool:
        """Whether a new connection may lead to a server that does not refuse."""
        return self.code in MOVED


def code_of(error: BaseException) -> str:
    """Return the code that an error reply begins with, "" if it has none."""
    # redis-py cuts the code off where it has a class for it, and before version 8 has it nowhere else.
    cut_off = getattr(error, "status_code", None) or _CLASSES.get(type(error))
    code = str(cut_off or str(error).partition(" ")[0])
    if code in ("ERR", "Error") or not code.isupper():
        inner = _IN_SCRIPT.search(str(error))
        return inner[1] if inner else ""
    return code


def passing(error: BaseException) -> ServerRefuses | None:
    """Return the error to raise in place of an error reply that passes; None for one that does not."""
    if isinstance(error, ServerRefuses):
        return error
    if not isinstance(error, ResponseError | ConnectionError):
        return None
    text, code = str(error), code_of(error)
    if code in PASSING:
        return ServerRefuses(code, text)
    return ServerRefuses("", text) if any(part in text for part in PASSING_TEXTS) else None


def is_passing(error: BaseException) -> bool:
    """Whether waiting helps: the server cannot be reached, or refuses for now."""
    # A wrong password does not pass, but redis-py derives its errors from ConnectionError.
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    return isinstance(error, ConnectionError | TimeoutError | OSError) or passing(error) is not None


def explain_failure(server: str, error: BaseException) -> str:
    """Return a sentence about a call of a server, such as "the queue", that has failed; it may be a RabbitMQ too."""
    # AccessRefused of AMQP has this code.
    refused = (
        isinstance(error, ANSWERS) or passing(error) is not None or getattr(error, "reply_code", 0) == ACCESS_REFUSED
    )
    return f"{server} {'refuses this' if refused else 'does not answer'}: {error}"


def patient_class(connection_class: Any) -> Any:
    """Return a subclass of redis-py's connection that raises ServerRefuses for error replies that pass."""

    class Patient(connection_class):  # type: ignore[misc]  # redis-py's, chosen by kombu
        def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                response = super().read_response(*arguments, **options)
            except RedisError as error:
                if (refusal := passing(error)) is not None:
                    raise refusal from error
                raise
            # redis-py raises the errors inside a transaction later, and then not as these classes.
            for reply in response if isinstance(response, list) else ():
                if isinstance(reply, ResponseError) and (refusal := passing(reply)) is not None:
                    raise refusal from reply
            return response

    return Patient
