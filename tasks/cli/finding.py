"""Findings of `doctor`, which Flower's overview shows as well."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, what was found, and what to do about it."""

    subject: str
    ok: bool
    found: str
    advice: str = ""
    unreachable: bool = False
