"""Execution of import runs: validation, staging, merge, progress, cancellation, outcome."""
