"""Result documents of jobs that no worker has executed, in the format of the workers."""

import json

from pattern_storage.storage import ModelResult
from pattern_storage.vocabulary import JobState


def result_document(result: ModelResult) -> bytes:
    """Return the document that a worker stores for a job with this result."""
    status, outcome = JobState.SUCCESS, result.to_dict()
    if not result.success:
        status = JobState.FAILURE
        outcome = {
            "exc_type": "StorageOperationFailed",
            "exc_message": [outcome],
            "exc_module": "pattern_storage.tasks.errors",
        }
    return json.dumps({"status": status, "result": outcome, "traceback": None, "children": []}).encode()
