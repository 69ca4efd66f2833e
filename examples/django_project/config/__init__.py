"""The project's own settings: its package may be called like a folder of pattern-storage."""
