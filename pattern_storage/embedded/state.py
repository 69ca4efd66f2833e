"""State file of a running stack, for other processes."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import write_private
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.ports import HOST

LOCK_FILE = "stack.lock"
STATE_FILE = "state.json"


def default_data_dir() -> Path:
    """Return the data directory of the stack where no setting names one.

    Root's home is closed to `nobody`, the account of the servers, so root gets a directory of the system. So does a
    user without a home, as in a container with an arbitrary uid: a folder under /tmp could be another user's trap.
    """
    if os.geteuid() != 0:
        with suppress(RuntimeError):
            return Path(platformdirs.user_data_dir("pattern-storage"))
    return Path("/var/lib/pattern-storage")


@dataclass(frozen=True, slots=True)
class StackState:
    """Process, addresses and further values of a stack that runs.

    Attributes:
        pid: The process that started it and ends it.
        database_url: PostgreSQL's URL, with the password.
        redis_url: Valkey's URL, with the password.
        started_at: When both servers were ready, UTC.
        values: JSON values by name, added by `EmbeddedStack.update_state`.
    """

    pid: int
    database_url: str
    redis_url: str
    started_at: datetime
    values: Mapping[str, object] = field(default_factory=dict)


def is_of_stopped_stack(url: str, data_dir: Path, server: str) -> bool:
    """Return whether a URL is that of the stack in `data_dir`, which does not run now.

    Args:
        url: for example of a shell that was told it while the stack ran.
        data_dir: the folder of the stack.
        server: "postgres" or "valkey".
    """
    with suppress(OSError, ValueError, EmbeddedError):
        address = urlsplit(url)
        kept = int((data_dir / server / "port").read_text(encoding="ascii"))
        return (address.hostname, address.port) == (HOST, kept) and read_state(data_dir) is None
    return False


def write_state(data_dir: Path, state: StackState) -> None:
    """Replace the state file in one step; only its owner can read it."""
    text = json.dumps(asdict(state) | {"started_at": state.started_at.isoformat()}, indent=2)
    write_private(data_dir / STATE_FILE, text + "\n")


def read_state(data_dir: Path) -> StackState | None:
    """Return the state of the stack that runs in `data_dir` now, None if there is none.

    The file of a stack that was killed does not count: the kernel released its lock. Raises EmbeddedError for a running
    stack whose state belongs to another user, or was not written by this version.
    """
    if not DirectoryLock.is_taken(data_dir / LOCK_FILE):
        return None
    file = data_dir / STATE_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return StackState(**content | {"started_at": datetime.fromisoformat(content["started_at"])})
    except FileNotFoundError:
        return None  # starting or stopping
    except OSError as error:
        raise EmbeddedError(f"Cannot read {file}: {error.strerror}. Run as the user who owns it.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise EmbeddedError(
            f"{file} is not a state file of this version: stop the stack there and start it again."
        ) from error
