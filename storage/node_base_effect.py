"""Base of effect nodes: transactions that are logged by id, and metrics."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pattern_storage.storage.explanation import one_line
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult

logger = get_logger(__name__)


@dataclass
class TransactionContext:
    """One transaction as the log and the metrics see it."""

    transaction_id: UUID | str
    start_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    end_time: datetime | None = None
    success: bool = False
    error: str | None = None
    _started: float = field(default_factory=time.perf_counter, repr=False)
    _ended: float | None = field(default=None, repr=False)

    @property
    def duration_ms(self) -> float:
        """Milliseconds from start to end, or until now while the transaction is open."""
        return ((self._ended or time.perf_counter()) - self._started) * 1000

    def end(self, error: BaseException | None = None) -> None:
        """Mark the transaction as ended, by an error if there is one."""
        self._ended = time.perf_counter()
        self.end_time = datetime.now(UTC)
        self.success = error is None
        self.error = None if error is None else one_line(str(error)) or type(error).__name__


class LightweightTransactionManager:
    """Marks the beginning and the end of transactions. It keeps no state, so any number may run at once."""

    @asynccontextmanager
    async def begin(self, transaction_id: UUID | str) -> AsyncIterator[TransactionContext]:
        """Yield the context of a new transaction; an exception marks it as failed and is raised again.

        This opens nothing in the database: the block itself does, on its own connection.
        """
        transaction = TransactionContext(transaction_id)
        about = {"transaction_id": str(transaction_id)}
        logger.debug("transaction %s started", transaction_id, extra=about)
        try:
            yield transaction
        except BaseException as error:
            transaction.end(error)
            logger.warning(
                "transaction %s rolled back after %.1f ms: %s",
                transaction_id, transaction.duration_ms, transaction.error, extra=about,
            )  # fmt: skip
            raise
        transaction.end()
        logger.debug("transaction %s committed in %.1f ms", transaction_id, transaction.duration_ms, extra=about)


class NodeBaseEffect(ABC):
    """An effect node: executes contracts that change something outside, and measures how long that takes."""

    def __init__(self) -> None:
        self.transaction_manager = LightweightTransactionManager()
        self._metrics: dict[str, dict[str, Any]] = {}
        #: Called with each measurement: its name, value and unit.
        self.observer: Callable[[str, float, str], None] | None = None

    @abstractmethod
    async def execute_effect(self, contract: ModelContractPatternStorage) -> ModelResult:
        """Execute the contract's operation. Never raises for a failed operation."""

    def get_metrics(self) -> dict[str, dict[str, Any]]:
        """Return a copy of the metrics by name: last `value`, `unit`, `count`, `total` and `max`."""
        return {name: dict(metric) for name, metric in self._metrics.items()}

    def clear_metrics(self) -> None:
        """Forget all metrics."""
        self._metrics.clear()

    def record_metric(self, name: str, value: float, unit: str = "ms") -> None:
        """Record a measurement under a name."""
        metric = self._metrics.setdefault(name, {"value": value, "unit": unit, "count": 0, "total": 0.0, "max": value})
        metric["value"] = value
        metric["count"] += 1
        metric["total"] += value
        metric["max"] = max(metric["max"], value)
        if self.observer is not None:
            self.observer(name, value, unit)
