"""Validation of a connection URL by libpq, which connects to nothing and never repeats the password."""

from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qsl, urlsplit

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Parameters that libpq reads as numbers only while it connects over TCP.
NUMBERS = ("port", "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
           "tcp_user_timeout")  # fmt: skip

#: A folder without a socket: connecting there ends at once, after libpq has looked at everything else.
NOWHERE = {"host": "/nonexistent", "hostaddr": "", "port": ""}

RULE = "see https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
UNREADABLE = (
    "cannot be read; it should be like postgresql://user:password@host:5432/database,"
    " with any of []@:/?# in the password written as %XX"
)


def refusal(conninfo: str) -> str | None:
    """Return why libpq refuses a URL or conninfo, as the end of a sentence about it; None if it takes it.

    A URL that passes may still name a server that is not there, or refuses us.
    """
    try:
        parts = urlsplit(conninfo) if "://" in conninfo else None
    except ValueError:  # a bracket without its other half
        return UNREADABLE
    reason = _reason(conninfo, parts)
    # A "/" or "?" in the password may end the address too early: what follows is then the rest of the password.
    return UNREADABLE if reason and parts and "@" in f"{parts.path}{parts.query}{parts.fragment}" else reason


def _reason(conninfo: str, parts: SplitResult | None) -> str | None:
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        known = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
        for name, _ in parse_qsl(parts.query, keep_blank_values=True) if parts else ():
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; {RULE}"
                return f"has the parameter {name!r}, which libpq does not know{hint}"
        return UNREADABLE
    for name in NUMBERS:
        value = str(given.get(name) or "")
        if not all(item.removeprefix("-").isdigit() for item in value.split(",") if item):
            return f"has {name}={value!r}; it should be a whole number"
    if given.get("service"):
        return None  # the service file may name a server, which must not be asked
    return _refused_value({**given, **NOWHERE})


def _refused_value(given: dict[str, object]) -> str | None:
    """Return libpq's sentence about a value that it would refuse before it connects."""
    error = _connect_error(given)
    # With a user: libpq looks for the name of ours otherwise, and in a container there may be none.
    if error == _connect_error({**NOWHERE, "user": "any"}):
        return None
    return f"cannot be used: {error}; {RULE}"


def _connect_error(given: dict[str, object]) -> str:
    connection = pq.PGconn.connect_start(make_conninfo("", **given).encode())  # type: ignore[arg-type]
    try:
        return connection.get_error_message().strip()
    finally:
        connection.finish()
