"""Real PostgreSQL and Valkey servers that need no installation: the programs come out of wheels."""

from config.embedded.errors import DirectoryUnusable, EmbeddedError, StackAlreadyRunning
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.stack import EmbeddedStack, default_data_dir
from config.embedded.state import StackState, read_state
from config.embedded.valkey import EmbeddedValkey

__all__ = [
    "DirectoryUnusable",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedStack",
    "EmbeddedValkey",
    "StackAlreadyRunning",
    "StackState",
    "default_data_dir",
    "read_state",
]
