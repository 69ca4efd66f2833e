"""Real PostgreSQL and Valkey servers that need no installation: the programs come out of wheels.

The servers are imported when they are first used (PEP 562): reading the state of a running stack, which every client
does, needs neither psutil nor the wheels, which only the extra `embedded` brings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pattern_storage.embedded.errors import DirectoryUnusable, EmbeddedError, ProgramMissing, StackAlreadyRunning
from pattern_storage.embedded.state import StackState, default_data_dir, is_of_stopped_stack, read_state

if TYPE_CHECKING:
    from pattern_storage.embedded.postgres import EmbeddedPostgres
    from pattern_storage.embedded.stack import EmbeddedStack
    from pattern_storage.embedded.valkey import EmbeddedValkey

__all__ = [
    "DirectoryUnusable",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedStack",
    "EmbeddedValkey",
    "ProgramMissing",
    "StackAlreadyRunning",
    "StackState",
    "default_data_dir",
    "is_of_stopped_stack",
    "read_state",
]

_MODULE_OF = {"EmbeddedPostgres": "postgres", "EmbeddedStack": "stack", "EmbeddedValkey": "valkey"}


def __getattr__(name: str) -> Any:
    """Import a server when it is first used. Raises AttributeError for any other name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
