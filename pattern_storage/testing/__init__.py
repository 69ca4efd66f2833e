"""Testing kit for applications: fixtures, inline and recorded jobs, assertions, factories of patterns.

pytest loads `plugin` by its entry point. Each name is imported when it is first used (PEP 562), so that a test run
without it pays nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pattern_storage.testing.cases import InlineJobs, RecordedJobs
    from pattern_storage.testing.django_cases import DjangoInlineJobs
    from pattern_storage.testing.inline_mode import InlineMode, inline
    from pattern_storage.testing.job_log import JobLog, SubmittedJob
    from pattern_storage.testing.patterns import make_contract, make_full_pattern, make_pattern
    from pattern_storage.testing.recorded_mode import RecordedMode, recorded
    from pattern_storage.testing.servers import TestServers, shared_servers
    from pattern_storage.testing.worker import ThreadWorker, start_worker

__all__ = [
    "DjangoInlineJobs",
    "InlineJobs",
    "InlineMode",
    "JobLog",
    "RecordedJobs",
    "RecordedMode",
    "SubmittedJob",
    "TestServers",
    "ThreadWorker",
    "inline",
    "make_contract",
    "make_full_pattern",
    "make_pattern",
    "recorded",
    "shared_servers",
    "start_worker",
]

_MODULES = {
    "cases": ("InlineJobs", "RecordedJobs"),
    "django_cases": ("DjangoInlineJobs",),
    "inline_mode": ("InlineMode", "inline"),
    "job_log": ("JobLog", "SubmittedJob"),
    "patterns": ("make_contract", "make_full_pattern", "make_pattern"),
    "recorded_mode": ("RecordedMode", "recorded"),
    "servers": ("TestServers", "shared_servers"),
    "worker": ("ThreadWorker", "start_worker"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used. Raises AttributeError for any other."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
