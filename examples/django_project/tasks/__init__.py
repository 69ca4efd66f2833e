"""An application of the project, about what people do: its package may be called like a folder of pattern-storage."""
