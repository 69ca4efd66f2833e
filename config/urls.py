"""Server URLs: their validation, whose errors never repeat a password, and one spelling for all readers of them.

redis-py, kombu and Celery each read a Redis URL in their own way; only what all three understand is allowed. libpq
validates DATABASE_URL further where it is used (tasks/database.py): this package must not import psycopg.
"""

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pattern_storage.config.broker import REDIS_SCHEMES

#: Unix sockets, as kombu and Celery spell them, and as redis-py does.
SOCKET_SCHEMES = ("redis+socket", "unix")

#: Parameters of a rediss:// URL, with their values where these are not names of files.
TLS: dict[str, tuple[str, ...]] = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
    "ssl_ca_certs": (),
    "ssl_certfile": (),
    "ssl_keyfile": (),
}


def check_url(variable: str, url: str | None, schemes: tuple[str, ...]) -> None:
    """Raise ValueError, naming the variable and the rule, for a URL that one of its readers could not use."""
    if url is None:
        return
    # libpq also takes "host=... dbname=...".
    if not (variable == "DATABASE_URL" and "://" not in url and "=" in url):
        # kombu and Celery separate the URLs of several servers by semicolons; libpq separates hosts by commas.
        for part in [url] if variable == "DATABASE_URL" else url.rstrip(";").split(";"):
            _check_part(variable, part, schemes)


def complete(url: str) -> str:
    """Return a validated URL of Redis or RabbitMQ in the spelling that redis-py, kombu and Celery understand alike.

    Without ssl_cert_reqs kombu uses no TLS at all and Celery refuses to start; redis-py's safe default is added. The
    spelling CERT_REQUIRED is Celery's alone.
    """
    return ";".join(_complete_part(part) for part in url.rstrip(";").split(";"))


def _check_part(variable: str, url: str, schemes: tuple[str, ...]) -> None:
    unreadable = ValueError(
        f"{variable} cannot be read; its port should be a number from 0 to 65535,"
        " and any of []@:/?#; in its password written as %XX"
    )
    try:
        parts = urlsplit(url)
        # libpq takes "postgresql://one:5432,two:5433/name", whose ports are not one number.
        if not (variable == "DATABASE_URL" and "," in url):
            _ = parts.port
    except ValueError:
        raise unreadable from None
    if not url:
        raise ValueError(f"{variable} is empty; it should be a URL, or not be set")
    if parts.scheme not in schemes:
        found = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        wanted = ", ".join(f"{name}://" for name in schemes)
        raise ValueError(f"{variable} has {found}; it should start with one of {wanted}")
    if parts.scheme in REDIS_SCHEMES:
        try:
            _check_redis(variable, parts)
        except ValueError:
            # An unescaped "/" or "?" in the password ends the address too early; an error would show the rest of it.
            if "@" in f"{parts.path}{parts.query}":
                raise unreadable from None
            raise
        if parts.fragment:
            raise unreadable


def is_socket(url: str) -> bool:
    """Whether a URL names a Unix socket: `redis+socket:///path` to kombu and Celery, `unix:///path` to redis-py."""
    return url.startswith(SOCKET_SCHEMES)


def for_redis_py(url: str) -> str:
    """Return a completed URL in redis-py's spelling."""
    if not is_socket(url):
        return url
    parts = urlsplit(url)
    # geturl would leave out the "//" before an empty host.
    return f"unix://{parts.netloc}{parts.path}?{urlencode({'db': _socket_database(parts)})}"


def _socket_database(parts: SplitResult) -> str:
    given = _parameters(parts)
    return given.get("virtual_host") or given.get("db") or "0"


def _check_socket(variable: str, parts: SplitResult) -> None:
    if parts.hostname or not parts.path.startswith("/") or not parts.path.strip("/"):
        raise ValueError(f"{variable} names no socket; it should be like {parts.scheme}:///run/redis/redis.sock")
    for name, value in _parameters(parts).items():
        if name not in ("virtual_host", "db"):
            raise ValueError(
                f"{variable} has the parameter {name!r}; a socket's database is given as virtual_host or db"
            )
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"{variable} has {name}={value!r}; it should be a number")


def _check_redis(variable: str, parts: SplitResult) -> None:
    if parts.scheme in SOCKET_SCHEMES:
        _check_socket(variable, parts)
        return
    database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError(
            f"{variable} has the database {database!r}; it should be a number, as in {parts.scheme}://host/0"
        )
    for name, value in _parameters(parts).items():
        if parts.scheme != "rediss":
            raise ValueError(f"{variable} has the parameter {name!r}; a URL of {parts.scheme}:// should have none")
        if name not in TLS:
            raise ValueError(f"{variable} has the parameter {name!r}; it should be one of {', '.join(TLS)}")
        if TLS[name] and _plain(value) not in TLS[name]:
            raise ValueError(f"{variable} has {name}={value!r}; it should be one of {', '.join(TLS[name])}")


def _complete_part(url: str) -> str:
    parts = urlsplit(url)
    if is_socket(url):
        return f"redis+socket://{parts.netloc}{parts.path}?{urlencode({'virtual_host': _socket_database(parts)})}"
    # geturl leaves out the "//" before an empty host.
    parts = parts._replace(netloc=parts.netloc or "localhost")
    if parts.scheme in REDIS_SCHEMES:
        # kombu cannot read the number in "/15/".
        parts = parts._replace(path=parts.path.rstrip("/"))
    if parts.scheme != "rediss":
        return parts.geturl()
    given = {"ssl_cert_reqs": "required"} | _parameters(parts)
    plain = {name: _plain(value) if TLS.get(name) else value for name, value in given.items()}
    return parts._replace(query=urlencode(plain)).geturl()


def _parameters(parts: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(parts.query, keep_blank_values=True))


def _plain(value: str) -> str:
    return value.lower().removeprefix("cert_")
