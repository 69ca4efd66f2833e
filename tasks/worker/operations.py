"""The tasks `storage.insert`, `storage.update` and so on, one for each operation of `vocabulary.OperationName`.

Names, queues and JSON are public: any Celery application can send these jobs by name (see README.md).
"""

from typing import Any

from pattern_storage.tasks.celery_app import app
from pattern_storage.tasks.worker import garbage  # noqa: F401  # connects to Celery's signals
from pattern_storage.tasks.worker.task import StorageTask
from pattern_storage.vocabulary import OperationName


def _add_task(operation: OperationName) -> None:
    @app.task(name=f"storage.{operation}", bind=True, base=StorageTask)
    def execute(self: StorageTask, *, contract: dict[str, Any]) -> dict[str, Any]:
        """Execute the contract once and return its result."""
        return self.execute(operation, contract)


for _operation in OperationName:
    _add_task(_operation)
