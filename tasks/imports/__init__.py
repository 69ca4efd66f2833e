"""Imports of files: plans and schedules (plan/), sources and formats (sources/), execution in a transaction (run/)."""
