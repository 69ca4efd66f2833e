"""Replay of dead letters: their contracts, with every value checked before they are sent again."""

from collections.abc import Iterable
from uuid import UUID

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.dead_letters import DeadLetter
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.operations import check
from pattern_storage.tasks.client.outgoing import build


def read_contracts(letters: Iterable[DeadLetter]) -> tuple[list[ModelContractPatternStorage], dict[UUID, Exception]]:
    """Return the contracts that can be sent again, and by correlation id the errors of those that cannot."""
    contracts: list[ModelContractPatternStorage] = []
    errors: dict[UUID, Exception] = {}
    for letter in letters:
        try:
            contract = build(**{"correlation_id": letter.correlation_id} | letter.fields())
            if contract.correlation_id != letter.correlation_id:
                raise ContractInvalid(f"its contract has another correlation_id, {contract.correlation_id}")
            check(contract)
            contracts.append(contract)
        except (StorageError, TypeError) as error:
            errors[letter.correlation_id] = error
    return contracts, errors
