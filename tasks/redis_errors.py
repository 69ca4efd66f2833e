"""Error replies of Redis and Valkey, sorted into passing and lasting."""

from redis import exceptions

#: The server may accept the same command later.
PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.MaxConnectionsError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
)

#: Error codes for which redis-py has no class. MISCONF: a save failed. BUSY, UNKILLABLE: a script runs.
PASSING_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE")

#: The same inside a script, where Redis before 7 and some forks put the code behind words of their own.
PASSING_IN_SCRIPT = (
    "-BUSY", "-LOADING", "-MASTERDOWN", "-MISCONF", "-NOREPLICAS", "-OOM", "-READONLY", "-TRYAGAIN", "-CLUSTERDOWN",
)  # fmt: skip


def is_passing(error: Exception) -> bool:
    """Whether a command that failed like this may succeed later without anybody changing the configuration."""
    # redis-py derives these two from ConnectionError.
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return False
    if isinstance(error, (*PASSING, OSError)):
        return True
    text = str(error)
    return text.startswith(PASSING_CODES) or any(code in text for code in PASSING_IN_SCRIPT)
