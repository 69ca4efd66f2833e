"""One-line description of a job for Flower and logs, without the template code."""

from collections.abc import Mapping
from typing import Any

from pattern_storage.config.celeryconfig import OPERATION_OF_TASK
from pattern_storage.vocabulary import OperationName

MAX_LENGTH = 200


def describe_call(task: str, kwargs: Any) -> str:
    """Return the description of a job by its task's name and keyword arguments, which may have any type."""
    operation = OPERATION_OF_TASK.get(task)
    if operation is None:
        # Beat's own, or another application's.
        return task
    contract = kwargs.get("contract") if isinstance(kwargs, Mapping) else None
    return describe_contract(operation, contract) if isinstance(contract, Mapping) else f"{operation}, contract missing"


def describe_contract(operation: str, contract: Mapping[str, Any]) -> str:
    """Return for example `insert AsyncDatabaseWriterPattern (code/python)`.

    The contract is that of a message: any part of it may be missing or of the wrong type.
    """
    match operation:
        case OperationName.INSERT:
            subject = _pattern(contract.get("data"))
        case OperationName.UPDATE:
            subject = f"{contract.get('pattern_id')} ({_names(contract.get('data'))})"
        case OperationName.BATCH_INSERT:
            patterns = contract.get("patterns")
            count = len(patterns) if isinstance(patterns, list) else 0
            subject = f"{count} patterns" + (f", first {_pattern(patterns[0])}" if count and patterns else "")
        case OperationName.QUERY:
            subject = _filters(contract.get("query_params"))
        case _:
            subject = str(contract.get("pattern_id"))
    # A name with a line break must not look like two lines of a log.
    line = f"{operation} {subject}"
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1]}…"


def _pattern(data: Any) -> str:
    if not isinstance(data, Mapping):
        return "an unnamed pattern"
    return f"{data.get('pattern_name')} ({data.get('pattern_type')}/{data.get('language')})"


def _names(data: Any) -> str:
    return ", ".join(map(str, data)) if isinstance(data, Mapping) else "nothing"


def _filters(params: Any) -> str:
    filters = params.items() if isinstance(params, Mapping) else ()
    return " ".join(f"{name}={value}" for name, value in filters if name != "cursor") or "everything"
