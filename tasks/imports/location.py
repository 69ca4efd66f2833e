"""Location of a source: a local path, or a URL that fsspec knows, also several chained with `::`."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

#: `scheme://`, or the scheme of a chain such as `simplecache::s3://`; RFC 3986 wants two characters of us to spare C:.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(://|::)")
_FILE_URL = re.compile(r"(?:file|local):/(?:/(?:localhost(?=/))?)?", re.IGNORECASE)


def local_path(source: str) -> str | None:
    """Return the local path of a source, None for a URL.

    A path is taken literally, whatever characters it has; in a `file://` URL percent escapes are decoded (RFC 8089).
    """
    if found := _FILE_URL.match(source):
        rest = source[found.end() :]
        return unquote(rest if found[0].endswith(("//", "localhost")) else f"/{rest}", errors="surrogateescape")
    return None if is_url(source) else source


def is_url(source: str) -> bool:
    """Return whether the source is a URL: a colon alone is part of a path."""
    if re.match(r"data:[^,]*,", source):
        return True
    found = _SCHEME.match(source)
    if found is None or found[2] == "://":
        return found is not None
    import fsspec  # here: it costs those that only read a plan a tenth of a second

    return found[1] in fsspec.available_protocols()


def absolute(source: str, folder: Path) -> str:
    """Return the source with a local path counted from the folder; a URL is left as it is.

    Raises ValueError for a home that nobody knows.
    """
    if is_url(source) or _FILE_URL.match(source):
        return source
    try:
        return str((folder / Path(source).expanduser()).absolute())
    except RuntimeError:  # a user without an entry in passwd, and no HOME
        raise ValueError(f"source is {source!r}, and nobody knows whose home ~ is: write the path in full") from None


def suffixes(source: str) -> list[str]:
    """Return the suffixes of the source's name in lower case, such as [".jsonl", ".gz"]."""
    path = local_path(source)
    if path is None:
        path = urlsplit(source).path if "://" in source else source
    return [suffix.lower() for suffix in PurePosixPath(path).suffixes]
