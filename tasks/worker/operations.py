"""The five tasks: `storage.insert`, `storage.update`, `storage.delete`, `storage.batch_insert`, `storage.query`.

Names, queues and JSON are public: any Celery application can send these jobs by name (see README.md).
"""

from typing import Any

from pattern_storage.tasks.celery_app import app
from pattern_storage.tasks.worker.task import StorageTask
from pattern_storage.vocabulary import OperationName


@app.task(name="storage.insert", bind=True, base=StorageTask)
def insert(self: StorageTask, *, contract: dict[str, Any]) -> dict[str, Any]:
    """Write one pattern."""
    return self.execute(OperationName.INSERT, contract)


@app.task(name="storage.update", bind=True, base=StorageTask)
def update(self: StorageTask, *, contract: dict[str, Any]) -> dict[str, Any]:
    """Change some columns of one pattern."""
    return self.execute(OperationName.UPDATE, contract)


@app.task(name="storage.delete", bind=True, base=StorageTask)
def delete(self: StorageTask, *, contract: dict[str, Any]) -> dict[str, Any]:
    """Remove one pattern."""
    return self.execute(OperationName.DELETE, contract)


@app.task(name="storage.batch_insert", bind=True, base=StorageTask)
def batch_insert(self: StorageTask, *, contract: dict[str, Any]) -> dict[str, Any]:
    """Write many patterns, all or none."""
    return self.execute(OperationName.BATCH_INSERT, contract)


@app.task(name="storage.query", bind=True, base=StorageTask)
def query(self: StorageTask, *, contract: dict[str, Any]) -> dict[str, Any]:
    """Find patterns, a page at a time."""
    return self.execute(OperationName.QUERY, contract)
