"""Secrets in files, one in each, as Docker and Kubernetes mount them: a container's environment is easily seen."""

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

VARIABLE = "PATTERN_STORAGE_SECRETS_DIR"


class SecretsUnreadable(Exception):
    """The folder or one of its files cannot be used; the text names it and says why."""


def read_secrets(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Return the content of each file whose name is one of `names`, without the line break at its end.

    Other files belong to other programs and are ignored. Raises SecretsUnreadable, also for a name that is probably a
    misspelt one of `names`.
    """
    try:
        files = {path.name: path for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise SecretsUnreadable(
            f"{VARIABLE} is {folder}, which cannot be read ({error.strerror}); it should be a folder of files"
        ) from None
    for name in sorted(files.keys() - set(names)):
        if close := get_close_matches(name.lower(), names, n=1, cutoff=0.85):
            raise SecretsUnreadable(
                f"{VARIABLE} has a file {name}, but there is no such setting; did you mean {close[0]}?"
            )
    return {name: _read(files[name]) for name in names if name in files}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SecretsUnreadable(f"{VARIABLE} has a file {path.name} that cannot be read: {reason}") from None
