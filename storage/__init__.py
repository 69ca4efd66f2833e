"""Storage of pattern templates in PostgreSQL: contracts, effect nodes and what they stand on."""

from storage.model_contract_pattern_storage import (
    ModelContractBase,
    ModelContractEffect,
    ModelContractPatternStorage,
    ModelPatternRecord,
    ModelResult,
)
from storage.node_base_effect import LightweightTransactionManager, NodeBaseEffect, TransactionContext
from storage.node_pattern_storage_effect import NodePatternStorageEffect

__version__ = "0.1.0"

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
