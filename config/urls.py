"""Whether a server's URL can be used, told without repeating it: it holds a password."""

from urllib.parse import urlsplit


def check_url(variable: str, url: str | None, schemes: tuple[str, ...]) -> None:
    """Raise ValueError, naming the variable and the rule, for a URL that cannot be read or has another scheme."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        # Lists of several servers, which Celery and libpq take, have no one port.
        _ = parts.port if not {",", ";"} & set(url) else None
    except ValueError:
        raise ValueError(
            f"{variable} cannot be read; its port should be a number from 0 to 65535,"
            " and any of []@:/?# in its password written as %XX"
        ) from None
    # libpq also takes "host=... dbname=...".
    if parts.scheme not in schemes and not (variable == "DATABASE_URL" and not parts.scheme and "=" in url):
        found = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        wanted = ", ".join(f"{name}://" for name in schemes)
        raise ValueError(f"{variable} has {found}; it should start with one of {wanted}")
