"""Replay of dead letters: reading their contracts, as many at a time as fit in memory, and sending them again."""

from collections.abc import Iterator, Sequence

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.dead_letters import DeadLetter
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.operations import check
from pattern_storage.tasks.client.outgoing import build


def contract_of(letter: DeadLetter) -> ModelContractPatternStorage:
    """Return a letter's contract, every value checked. Raises StorageError or TypeError if it cannot be sent again."""
    contract = build(**{"correlation_id": letter.correlation_id} | letter.fields())
    if contract.correlation_id != letter.correlation_id:
        raise ContractInvalid(f"its contract has another correlation_id, {contract.correlation_id}")
    check(contract)
    return contract


def readable(letters: Sequence[DeadLetter]) -> Iterator[ModelContractPatternStorage]:
    """Yield the contracts that can be sent again."""
    for letter in letters:
        try:
            yield contract_of(letter)
        except (StorageError, TypeError):
            continue
