"""A virtual environment for each peer, made when it is first needed, and where everything stands."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.peers.registry import COMMON, Peer

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
VENVS = Path(__file__).parents[1] / ".venvs"

#: Packages whose versions are worth printing.
SHOWN = {
    *("celery", "kombu", "redis", "hiredis", "psycopg", "saq", "dramatiq", "taskiq", "taskiq-redis", "arq", "huey"),
    *("procrastinate", "pgqueuer", "pattern-storage", "uvloop", "greenlet"),
}
CONFIGURES_US = ("PATTERN_STORAGE_", "CELERY_", "DATABASE_URL", "REDIS_URL", "BROKER_URL", "RESULT_BACKEND", "PG")


def python(peer: Peer) -> str:
    """Return the interpreter of the peer's environment; make that if it is missing or was made for other packages."""
    if not peer.requirements:
        return sys.executable
    wanted = (*peer.requirements, *COMMON)
    # Two ways to run one library share an environment.
    folder = VENVS / hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    executable, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        print(f"making an environment for {peer.name}: {', '.join(wanted)}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        subprocess.run(pip, check=True)
        stamp.touch()
    return str(executable)


def versions(peer: Peer) -> dict[str, str]:
    """Return the versions of what the peer's environment runs on."""
    command = [python(peer), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {one["name"].lower(): one["version"] for one in listed if one["name"].lower() in SHOWN}


def variables(database_url: str, redis_url: str) -> dict[str, str]:
    """Return the environment of workers and drivers: nothing that configures us but these two servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURES_US)}
    return kept | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PATTERN_STORAGE_DATA_DIR": os.devnull,
        "PYTHONPATH": str(PROGRAMS),
    }


def machine() -> str:
    """Return what the figures were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} processors of {platform.machine()}, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%d %B %Y}, load {os.getloadavg()[0]:.1f} at the start"
    )
