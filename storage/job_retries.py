"""Retries by an operator: a failed or cancelled job is sent again through the outbox, under a new id, and linked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from psycopg.rows import scalar_row, tuple_row

from pattern_storage.storage import outbox
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import OperationName


@dataclass
class Retried:
    """The jobs that were sent again, as (old id, new contract), and why each of the others was not."""

    sent: list[tuple[UUID, ModelContractPatternStorage]] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)


async def retry(connection: Connection, ids: Sequence[UUID], *, again: bool = False) -> Retried:
    """Send jobs again, in the caller's transaction: they wait in the outbox until it commits.

    Args:
        connection: of that transaction.
        ids: of jobs that failed or were cancelled; a dead letter is replayed instead, under its own id.
        again: also those that were sent again before. Without it two operators who click at the same time send one.
    """
    done = Retried()
    found = await fetch_all(connection, tuple_row, block("retriable_contracts"), {"ids": list(ids)})
    contracts: dict[UUID, str | None] = dict(found)
    before = set() if again else await retried_before(connection, ids)
    for job in dict.fromkeys(ids):
        if job not in contracts:
            done.refused[job] = "it has not failed and was not cancelled, or the ledger has forgotten it"
        elif job in before:
            done.refused[job] = "it was sent again before"
        else:
            try:
                contract = _renewed(job, contracts[job])
                await outbox.add(connection, contract)
            except StorageError as error:
                done.refused[job] = str(error)
                continue
            values = {"correlation_id": contract.correlation_id, "retried_from": job}
            await connection.execute(block("add_retry"), values)
            done.sent.append((job, contract))
    return done


def _renewed(job: UUID, text: str | None) -> ModelContractPatternStorage:
    """Return the contract under a new id. Raises ContractInvalid for one that would fail again, or is not known."""
    if text is None:
        raise ContractInvalid(
            "its contract was not kept: it is a run of an import, is older than this release, or has a number like NaN"
        )
    contract = outbox.read(job, text)
    if contract.operation == OperationName.QUERY:
        raise ContractInvalid("it is a query; ask it again")
    return contract.model_copy(update={"correlation_id": uuid4()})


async def retried_before(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these jobs an operator has sent again before."""
    return set(await fetch_all(connection, scalar_row, block("already_retried"), {"ids": list(ids)}))


async def purge(connection: Connection, *, days: int, step: int = 1_000) -> int:
    """Remove up to `step` links between jobs that are older than `days` days; return how many."""
    return (await connection.execute(block("purge_retries"), {"days": days, "step": step})).rowcount
