"""The result of a job as the ledger has it: JSON that PostgreSQL has put together, parsed only where it has to be."""

from typing import NamedTuple

from pydantic_core import from_json

from pattern_storage.storage.model_contract_pattern_storage import ModelResult


class RecordedResult(NamedTuple):
    """One result of a group; its JSON goes on to the result backend as it is."""

    success: bool
    #: A `ModelResult`, in UTF-8.
    json: bytes

    def parse(self) -> ModelResult:
        """Return it as an object."""
        return ModelResult(**from_json(self.json))
