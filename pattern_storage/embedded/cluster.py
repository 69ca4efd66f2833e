"""Data directory of a PostgreSQL server: created whole, or not at all."""

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import PostgresPrograms
from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import make_server_directory, write_private
from pattern_storage.embedded.launcher import launch
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.orphans import stop_orphans

#: The superuser and the database.
NAME = "pattern_storage"
#: Seconds for each of the two steps; both take less than one on an idle machine.
TIMEOUT = 120.0


def create_cluster(
    data: Path, programs: PostgresPrograms, account: Account, *, password: str, durable: bool, log: ServerLog
) -> None:
    """Create a data directory with user and database `pattern_storage`.

    All happens in `<data>.new-<random>`, which is renamed at the end. initdb cut off in the middle leaves a
    directory that looks finished; under the other name it is thrown away at the next start.

    Raises EmbeddedError for a step that failed; the message ends with its output.
    """
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL's initdb asks for the name of its user, and this system has none for user {account.uid}: "
            "run as a user with an entry in /etc/passwd, or set DATABASE_URL and REDIS_URL to servers of your own."
        ) from None
    # Left by a start that was cut off. A server that still runs in one has no owner.
    for abandoned in data.parent.glob(f"{data.name}.new-*"):
        stop_orphans(abandoned, ["postgres"], signal.SIGKILL)
        shutil.rmtree(abandoned, ignore_errors=True)
    # The name is unique, because an initdb that outlives its parent may still write.
    new = data.with_name(f"{data.name}.new-{secrets.token_hex(4)}")
    make_server_directory(new, account)
    password_file = data.with_name(".password-for-initdb")
    # initdb runs as `account`, which must not be able to read the password file that is kept.
    write_private(password_file, password + "\n", account)
    create: list[str | Path] = [
        programs.initdb,
        f"--pgdata={new}",
        f"--username={NAME}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-instructions",
    ]
    if _major_version(programs.postgres) >= 17:
        # Unicode case mapping that does not depend on the system's C library.
        create += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        create.append("--no-sync")
    try:
        launch("initdb", create, account=account, log=log, death_signal=signal.SIGKILL).wait_done(timeout=TIMEOUT)
    finally:
        password_file.unlink(missing_ok=True)
    before = {entry.name for entry in (new / "base").iterdir()}
    single: list[str | Path] = [programs.postgres, "--single", *([] if durable else ["-F"]), "-D", new, "template1"]
    name, statement = "PostgreSQL in single-user mode", f"CREATE DATABASE {NAME}\n"
    server = launch(name, single, account=account, log=log, death_signal=signal.SIGKILL, stdin=statement)
    server.wait_done(timeout=TIMEOUT)
    # It ends with status 0 also if the statement failed; a database is a directory.
    if {entry.name for entry in (new / "base").iterdir()} == before:
        raise EmbeddedError(f"PostgreSQL did not create database {NAME}; the end of {log.path}:\n{log.tail()}")
    new.rename(data)
    if durable:
        # A power cut must not take the name back once rows have been committed under it.
        descriptor = os.open(data.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _major_version(postgres: Path) -> int:
    """Return 18 for `postgres (PostgreSQL) 18.6 (Debian 18.6-1)`, 0 for another answer."""
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0  # its start, which comes next, says what is wrong with it
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(found[1]) if found else 0
