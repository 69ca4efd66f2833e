"""Python files of a source tree, parsed and turned into patterns."""

import ast
import os
import sys
import sysconfig
import threading
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pattern_storage.extract.definition import Definition, definitions, storable

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_CODE_BYTES = 1024 * 1024
MAX_NAME_CHARACTERS = 255

#: Names of directories that are left out: tests, installed packages, and folders of tools. `venv` is not among them,
#: because the standard library has a package of that name.
DEFAULT_EXCLUDE = (
    *("test", "tests", "idle_test"),
    *("site-packages", "dist-packages", "__pypackages__", "node_modules", "__pycache__"),
    *(".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".eggs"),
)

OnSkip = Callable[[Path, str], None]

_warnings_lock = threading.Lock()


class HarvestError(ValueError):
    """A path, or one file of it, from which no patterns can be harvested."""


def standard_library() -> Path:
    """Return the directory of the running Python's standard library, which has thousands of patterns."""
    return Path(sysconfig.get_path("stdlib"))


def harvest(path: Path, *, exclude: Sequence[str] = DEFAULT_EXCLUDE, on_skip: OnSkip | None = None) -> Iterator[Any]:
    """Yield the `data` of one insert per definition, in the same order and with the same names every time.

    A pattern is called `module.qualname`. A module's name starts at its outermost package, also one above `path`, so
    `json/` and the whole library both give `json.decoder.JSONDecoder`. No two patterns share name and type: the second
    of two gets `#2` at its end. One file is in memory at a time. Links to directories are not followed.

    Args:
        path: One `.py` file, or a directory that is searched to any depth.
        exclude: Names of directories below `path` to leave out.
        on_skip: Called with the path and a sentence for each file or definition that is left out: one that
            cannot be read, decoded or parsed, or that is too large.

    Raises:
        HarvestError: At once, not at the first pattern, if `path` is missing or no Python file.
    """
    try:
        path = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a symbolic link to itself, before Python 3.13
        reason = error.strerror if isinstance(error, OSError) else "it is a link to itself"
        raise HarvestError(f"There is nothing to harvest at {str(path)!r}: {reason}.") from error
    if not path.is_dir() and not (path.is_file() and path.suffix == ".py"):
        raise HarvestError(f"{str(path)!r} is neither a directory nor a Python file (*.py).")
    return _patterns(path, frozenset(exclude), on_skip or (lambda path, reason: None))


def _patterns(path: Path, exclude: frozenset[str], on_skip: OnSkip) -> Iterator[dict[str, Any]]:
    base = path if path.is_dir() else path.parent
    while (base / "__init__.py").is_file() and base != base.parent:
        base = base.parent
    names = _Names()
    for file in _python_files(path, exclude, on_skip) if path.is_dir() else [path]:
        try:
            tree, lines = _parse(file)
        except HarvestError as error:
            on_skip(file, str(error))
            continue
        module = _module(file.relative_to(base))
        for definition in definitions(tree, lines):
            if (size := len(definition.code.encode())) > MAX_CODE_BYTES:
                reason = f"has {size} bytes of source, more than the {MAX_CODE_BYTES} of a pattern"
                on_skip(file, f"{definition.qualname} in line {definition.first_line} {reason}.")
                continue
            yield _pattern(module, definition, names)


def _pattern(module: str, definition: Definition, names: "_Names") -> dict[str, Any]:
    description, example_usage = definition.documentation()
    complexity = definition.complexity()
    return {
        "pattern_name": names.take(f"{module}.{definition.qualname}", definition.pattern_type),
        "pattern_type": definition.pattern_type,
        "language": "python",
        "category": module.partition(".")[0],
        "template_code": definition.code,
        "description": description,
        "example_usage": example_usage,
        "source": f"{module}:{definition.first_line}",
        "complexity_score": min(max(complexity, 1), 10),
        "tags": definition.tags(),
        "context": {
            "module": module,
            "qualname": definition.qualname,
            "line": definition.first_line,
            "end_line": definition.last_line,
            "complexity": complexity,
            **definition.details(),
        },
    }


class _Names:
    """The names of a harvest so far, so that no two patterns collide in the unique constraint."""

    def __init__(self) -> None:
        self._uses: Counter[tuple[str, str]] = Counter()

    def take(self, name: str, pattern_type: str) -> str:
        wanted = given = name[:MAX_NAME_CHARACTERS]
        while self._uses[given, pattern_type]:
            self._uses[wanted, pattern_type] += 1
            suffix = f"#{self._uses[wanted, pattern_type]}"
            given = wanted[: MAX_NAME_CHARACTERS - len(suffix)] + suffix
        self._uses[given, pattern_type] += 1
        return given


def _python_files(root: Path, exclude: frozenset[str], on_skip: OnSkip) -> Iterator[Path]:
    def skip(error: OSError) -> None:
        on_skip(Path(error.filename), f"The directory cannot be listed: {error.strerror}.")

    for directory, folders, names in os.walk(root, onerror=skip):
        folders[:] = sorted(set(folders) - exclude)
        yield from (Path(directory, name) for name in sorted(names) if name.endswith(".py"))


def _parse(file: Path) -> tuple[ast.Module, list[str]]:
    """Return the tree and the lines of a file. Raises HarvestError if it is to be left out."""
    try:
        if not file.is_file():  # a named pipe would block the read for ever
            raise HarvestError("It is not a regular file.")
        if (size := file.stat().st_size) > MAX_FILE_BYTES:
            raise HarvestError(f"The file has {size} bytes, more than the {MAX_FILE_BYTES} that are parsed.")
        with tokenize.open(file) as stream:
            text = stream.read()
    except OSError as error:
        raise HarvestError(f"The file cannot be read: {error.strerror}.") from None
    except (SyntaxError, LookupError, UnicodeError) as error:  # a PEP 263 cookie, a codec, a byte
        raise HarvestError(f"The file cannot be decoded: {error}.") from None
    try:
        # Warnings of the source are not for the user. The filters belong to the whole process, hence the lock.
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text), text.split("\n")
    except SyntaxError as error:
        reason = f"{error.msg} in line {error.lineno}" if error.lineno else error.msg
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; nested deeper than the parser can
        reason = str(error) or "it is nested too deeply"
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    raise HarvestError(f"{version} cannot parse the file: {reason.rstrip('.')}.")


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    named = parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts
    return storable(".".join(named).lstrip("."))
