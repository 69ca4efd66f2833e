"""Factories of patterns: their names are unique."""

import importlib

from pattern_storage.testing import patterns


def test_another_process_has_other_names() -> None:
    """A program that runs twice inserts its patterns twice; what the module counts begins again in each."""
    names = {patterns.make_pattern()["pattern_name"] for _ in range(3)}
    again = importlib.reload(patterns)
    names |= {again.make_pattern()["pattern_name"] for _ in range(3)}
    names |= {importlib.reload(patterns).make_pattern()["pattern_name"] for _ in range(3)}
    assert len(names) == 9
