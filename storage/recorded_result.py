"""The result of a job of a group: JSON that PostgreSQL has built for the ledger, parsed only where it has to be."""

from typing import NamedTuple

from pydantic_core import from_json

from pattern_storage.storage.model_contract_pattern_storage import ModelResult


class RecordedResult(NamedTuple):
    """The result of one job; its JSON goes to the result backend unchanged."""

    success: bool
    #: A `ModelResult`, in UTF-8.
    json: bytes

    def parse(self) -> ModelResult:
        """Return it as an object."""
        return ModelResult(**from_json(self.json))
