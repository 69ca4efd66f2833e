"""Storage of pattern templates in PostgreSQL: contracts, effect nodes and what they stand on."""

from pattern_storage.storage.model_contract_pattern_storage import (
    ModelContractBase,
    ModelContractEffect,
    ModelContractPatternStorage,
    ModelPatternRecord,
    ModelResult,
)
from pattern_storage.storage.node_base_effect import LightweightTransactionManager, NodeBaseEffect, TransactionContext
from pattern_storage.storage.node_pattern_storage_effect import NodePatternStorageEffect
from pattern_storage.version import __version__

__all__ = [
    "LightweightTransactionManager",
    "ModelContractBase",
    "ModelContractEffect",
    "ModelContractPatternStorage",
    "ModelPatternRecord",
    "ModelResult",
    "NodeBaseEffect",
    "NodePatternStorageEffect",
    "TransactionContext",
    "__version__",
]
