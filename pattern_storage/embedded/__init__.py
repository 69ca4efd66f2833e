"""Real PostgreSQL and Valkey servers that need no installation: the programs come out of wheels."""

from pattern_storage.embedded.errors import DirectoryUnusable, EmbeddedError, StackAlreadyRunning
from pattern_storage.embedded.postgres import EmbeddedPostgres
from pattern_storage.embedded.stack import EmbeddedStack, default_data_dir
from pattern_storage.embedded.state import StackState, read_state
from pattern_storage.embedded.valkey import EmbeddedValkey

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
