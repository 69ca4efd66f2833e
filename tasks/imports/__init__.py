"""Imports of files: planned and due (plan/), read (sources/), stored in one transaction (run/)."""
