"""Location of a source: a local path, or a URL of fsspec, which may be a chain of URLs joined with `::`."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

#: `scheme://`, or the scheme of a chain such as `simplecache::s3://`. It has at least two characters: `C:` is a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(://|::)")
_FILE_URL = re.compile(r"(?:file|local):/(?:/(?:localhost(?=/))?)?", re.IGNORECASE)


def local_path(source: str) -> str | None:
    """Return the local path of a source, None for a URL.

    Every character of a path stands for itself; in a `file://` URL percent escapes are decoded (RFC 8089).
    """
    if url := _FILE_URL.match(source):
        rest = source[url.end() :]
        return unquote(rest if url[0].endswith(("//", "localhost")) else f"/{rest}", errors="surrogateescape")
    return None if is_url(source) else source


def is_url(source: str) -> bool:
    """Return whether the source is a URL: a colon alone is part of a path."""
    if re.match(r"data:[^,]*,", source):
        return True
    scheme = _SCHEME.match(source)
    if scheme is None or scheme[2] == "://":
        return scheme is not None
    import fsspec  # here: reading a plan would take a tenth of a second longer

    return scheme[1] in fsspec.available_protocols()


def absolute(source: str, folder: Path) -> str:
    """Return the source with a local path made absolute, relative to the folder; a URL stays as it is.

    Raises ValueError for an unknown home.
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
