"""State file of a running stack, for other processes."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import platformdirs

from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import write_private
from pattern_storage.embedded.lock import DirectoryLock

__all__ = ["LOCK_FILE", "STATE_FILE", "StackState", "default_data_dir", "read_state", "write_state"]

LOCK_FILE = "stack.lock"
STATE_FILE = "state.json"


def default_data_dir() -> Path:
    """Where the stack keeps its data when nobody says otherwise.

    Root's home is closed to `nobody`, whom the servers run as, so root gets a directory of the system. So does a user
    without a home, as in a container with an arbitrary uid: a folder under /tmp could be another user's trap.
    """
    if os.geteuid() != 0:
        with suppress(RuntimeError):
            return Path(platformdirs.user_data_dir("pattern-storage"))
    return Path("/var/lib/pattern-storage")


@dataclass(frozen=True, slots=True)
class StackState:
    """How to reach a stack that runs.

    Attributes:
        pid: The process that started it and ends it.
        database_url: PostgreSQL, with the password.
        redis_url: Valkey, with the password.
        started_at: When both servers were ready, UTC.
        values: What the caller added with `EmbeddedStack.update_state`; JSON values by name.
    """

    pid: int
    database_url: str
    redis_url: str
    started_at: datetime
    values: Mapping[str, object] = field(default_factory=dict)


def write_state(data_dir: Path, state: StackState) -> None:
    """Replace the state file in one step; it is readable by its owner alone."""
    text = json.dumps(asdict(state) | {"started_at": state.started_at.isoformat()}, indent=2)
    write_private(data_dir / STATE_FILE, text + "\n")


def read_state(data_dir: Path) -> StackState | None:
    """The state of the stack that runs in `data_dir` now.

    None when there is none. A file left by a stack that was killed does not count: the kernel dropped its lock.

    Raises:
        EmbeddedError: It runs, but the state is another user's, or not what this version writes.
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
