"""Harvesting: every function, method and class of Python source as one pattern to insert.

    from pattern_storage.extract import harvest, standard_library

    for pattern in harvest(standard_library()):
        client.insert(pattern)

`source_tree` finds and parses the files, `definition` derives a pattern's columns from one definition.
"""

from pattern_storage.extract.source_tree import (
    DEFAULT_EXCLUDE,
    MAX_CODE_BYTES,
    MAX_FILE_BYTES,
    HarvestError,
    harvest,
    standard_library,
)

__all__ = ["DEFAULT_EXCLUDE", "MAX_CODE_BYTES", "MAX_FILE_BYTES", "HarvestError", "harvest", "standard_library"]
