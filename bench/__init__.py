"""Benchmarks, run on demand through make; they print ratios measured in one run."""
