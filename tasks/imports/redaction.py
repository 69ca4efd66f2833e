"""Redaction of credentials in source paths and URLs, also in URLs chained with `::` as fsspec does."""

import re

from pattern_storage.storage.explanation import one_line

#: User and password in any URL of a chain. The chain is not parsed, because a password may hold `::` as well.
_PASSWORD = re.compile(r"://[^/?#]*:[^/?#]+@")
_USER = re.compile(r"://[^/?#]*@")
#: Up to the next URL of the chain.
_QUERY = re.compile(r"[?#].*?(?=::[^:?#]*://|$)", re.DOTALL)


def contains_password(source: str) -> bool:
    """Return whether any URL in the source has a password before its host."""
    return _PASSWORD.search(source) is not None


def redact(source: str) -> str:
    """Return the source in one printable line, without user, query and fragment, which may hold a secret."""
    # A file's name may be any bytes; Python carries those that are not UTF-8 as lone surrogates.
    text = source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return one_line(_QUERY.sub("", _USER.sub("://", text)) if "://" in text else text)
