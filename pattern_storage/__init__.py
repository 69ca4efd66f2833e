"""Background jobs that store learned code patterns in PostgreSQL: the names that applications import.

Each name is loaded when it is first used, so that `import pattern_storage` costs milliseconds (PEP 562).
`celery -A pattern_storage worker|beat|flower` finds the Celery application here as `app`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pattern_storage.version import __version__

if TYPE_CHECKING:
    from pattern_storage.config.settings import SettingsInvalid
    from pattern_storage.storage.errors import (
        ContractInvalid,
        CorrelationConflict,
        StorageError,
        UnsupportedOperation,
    )
    from pattern_storage.storage.job_options import SubmitOptions
    from pattern_storage.storage.model_contract_pattern_storage import (
        ModelContractBase,
        ModelContractEffect,
        ModelContractPatternStorage,
        ModelPatternRecord,
        ModelResult,
    )
    from pattern_storage.storage.node_base_effect import (
        LightweightTransactionManager,
        NodeBaseEffect,
        TransactionContext,
    )
    from pattern_storage.storage.node_pattern_storage_effect import NodePatternStorageEffect
    from pattern_storage.storage.pattern import Pattern
    from pattern_storage.storage.pattern_columns import PatternChanges, PatternColumns
    from pattern_storage.storage.setup_errors import ConnectionUnsupported
    from pattern_storage.tasks.celery_app import app
    from pattern_storage.tasks.client.asynchronous import AsyncPatternStorageClient
    from pattern_storage.tasks.client.job import AsyncJob, Job
    from pattern_storage.tasks.client.synchronous import PatternStorageClient
    from pattern_storage.tasks.errors import (
        BrokerUnavailable,
        JobError,
        JobTimeout,
        ResultBackendUnavailable,
        ServiceUnavailable,
    )
    from pattern_storage.vocabulary import Priority

_MODULES = {
    "config.settings": ("SettingsInvalid",),
    "storage.errors": ("ContractInvalid", "CorrelationConflict", "StorageError", "UnsupportedOperation"),
    "storage.setup_errors": ("ConnectionUnsupported",),
    "storage.job_options": ("SubmitOptions",),
    "storage.model_contract_pattern_storage": (
        "ModelContractBase",
        "ModelContractEffect",
        "ModelContractPatternStorage",
        "ModelPatternRecord",
        "ModelResult",
    ),
    "storage.pattern": ("Pattern",),
    "storage.pattern_columns": ("PatternChanges", "PatternColumns"),
    "storage.node_base_effect": ("LightweightTransactionManager", "NodeBaseEffect", "TransactionContext"),
    "storage.node_pattern_storage_effect": ("NodePatternStorageEffect",),
    "tasks.celery_app": ("app",),
    "tasks.client.asynchronous": ("AsyncPatternStorageClient",),
    "tasks.client.job": ("AsyncJob", "Job"),
    "tasks.client.synchronous": ("PatternStorageClient",),
    "tasks.errors": ("BrokerUnavailable", "JobError", "JobTimeout", "ResultBackendUnavailable", "ServiceUnavailable"),
    "vocabulary": ("Priority",),
}
#: Which module has a public name.
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AsyncJob",
    "AsyncPatternStorageClient",
    "BrokerUnavailable",
    "ConnectionUnsupported",
    "ContractInvalid",
    "CorrelationConflict",
    "Job",
    "JobError",
    "JobTimeout",
    "LightweightTransactionManager",
    "ModelContractBase",
    "ModelContractEffect",
    "ModelContractPatternStorage",
    "ModelPatternRecord",
    "ModelResult",
    "NodeBaseEffect",
    "NodePatternStorageEffect",
    "Pattern",
    "PatternChanges",
    "PatternColumns",
    "PatternStorageClient",
    "Priority",
    "ResultBackendUnavailable",
    "ServiceUnavailable",
    "SettingsInvalid",
    "StorageError",
    "SubmitOptions",
    "TransactionContext",
    "UnsupportedOperation",
    "__version__",
    "app",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used. Raises AttributeError for any other."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
