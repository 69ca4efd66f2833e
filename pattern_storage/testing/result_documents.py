"""Result documents of jobs that no worker has done, as a worker would write them."""

import json

from pattern_storage.storage import ModelResult
from pattern_storage.vocabulary import JobState


def result_document(result: ModelResult) -> bytes:
    """Return what a worker stores of a job that ended with this result."""
    outcome = result.to_dict()
    if result.success:
        return _encode(JobState.SUCCESS, outcome)
    failure = {
        "exc_type": "StorageOperationFailed",
        "exc_message": [outcome],
        "exc_module": "pattern_storage.tasks.errors",
    }
    return _encode(JobState.FAILURE, failure)


def _encode(status: JobState, result: object) -> bytes:
    return json.dumps({"status": status, "result": result, "traceback": None, "children": []}).encode()
