"""Dead letters: jobs that ran out of attempts, or that no worker could take, kept until replayed or discarded.

They are read in two steps: pages without contracts, then chunks of contracts that fit in memory. One contract may be a
batch of ten thousand patterns, and after an outage there are many dead letters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Json

from pattern_storage.storage import outbox
from pattern_storage.storage.attempts import failed_attempt
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.explanation import storable
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block

#: Dead letters in a page, without contracts: a few hundred kilobytes.
PAGE_SIZE = 5_000

#: Dead letters are counted up to here: each is looked up in the ledger, and a scrape of the metrics is to be short.
COUNT_LIMIT = 100_000

#: Contracts in a chunk, and their bytes as PostgreSQL stores them, compressed; at least one always fits.
CHUNK_LIMIT = 50
CHUNK_SIZE = 250_000
#: Dead letters read with their contracts at most.
FETCH_LIMIT = 1_000


@dataclass(frozen=True)
class LetterFilter:
    """Filter of dead letters; all given conditions must hold. `reason`: see `dead_letter_pages.LetterGroup`."""

    ids: list[UUID] | None = None
    error_type: str | None = None
    reason: str | None = None
    operation: str | None = None
    pattern_name: str | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERY = LetterFilter()


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter with its contract, whose JSON is left as text: an application may have written it with SQL.

    A contract that cannot be read, for example one that is nested too deeply, must not hide the other letters.
    """

    correlation_id: UUID
    contract: str
    error_type: str
    error: str
    attempts: int
    first_at: datetime
    died_at: datetime

    def fields(self) -> dict[str, Any]:
        """Return the contract as JSON types. Raises ContractInvalid if it is no object, or cannot be read."""
        return outbox.parse(self.contract)


@dataclass(frozen=True)
class Entry:
    """A dead letter in a page, without its contract; `size`: bytes that the contract takes in the table."""

    correlation_id: UUID
    died_at: datetime
    size: int


async def add(
    connection: Connection, contract: ModelContractPatternStorage, result: ModelResult, *, attempts: int
) -> bool:
    """Keep a job that ran out of attempts, with its last result; a later success removes it.

    Return whether it is a dead letter now: a job that is in the ledger has ended, and its workers were lost only before
    they could acknowledge it.
    """
    values = {
        "contract": Json(contract.model_dump(mode="json")),
        "error_type": result.metadata["error_type"],
        "error": storable(result.error),
        "attempts": attempts,
    }
    values |= failed_attempt(contract, result)
    return (await connection.execute(block("add_dead_letter"), values)).rowcount == 1


async def move_from_outbox(connection: Connection, correlation_id: UUID, error: StorageError) -> None:
    """Turn a job of the outbox that can never be published into a dead letter."""
    # The error may be a NUL in a field's name, and PostgreSQL could not store the sentence that repeats it.
    values = {"correlation_id": correlation_id, "error_type": error.error_type, "error": storable(error)}
    await connection.execute(block("move_outbox_job_to_dead_letters"), values)


async def page(
    connection: Connection, wanted: LetterFilter = EVERY, *, after: Entry | None = None, limit: int = PAGE_SIZE
) -> list[Entry]:
    """Return a page of the dead letters that the filter lets through, the newest first, behind the entry `after`.

    A letter that dies again meanwhile moves to the front, so no later page has it again.
    """
    place = {"after": after and after.died_at, "after_id": after and after.correlation_id, "limit": limit}
    return await fetch_all(connection, class_row(Entry), block("page_dead_letters"), vars(wanted) | place)


def chunks(entries: Sequence[Entry]) -> Iterator[list[UUID]]:
    """Divide entries, in order, into chunks whose contracts may be read at once; yields their ids."""
    chunk: list[UUID] = []
    size = 0
    for entry in entries:
        if chunk and (len(chunk) == CHUNK_LIMIT or size + entry.size > CHUNK_SIZE):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry.correlation_id)
        size += entry.size
    if chunk:
        yield chunk


async def fetch(connection: Connection, *, ids: Sequence[UUID] | None = None) -> list[DeadLetter]:
    """Return dead letters with their contracts, the newest first: those with these ids, or all, FETCH_LIMIT at most."""
    values = {"ids": None if ids is None else list(ids), "limit": FETCH_LIMIT}
    return await fetch_all(connection, class_row(DeadLetter), block("fetch_dead_letters"), values)


async def count(connection: Connection, wanted: LetterFilter = EVERY, *, limit: int | None = COUNT_LIMIT) -> int:
    """Return the number of dead letters that the filter lets through; `limit` stands for that many or more."""
    return int(await fetch_value(connection, block("count_dead_letters"), vars(wanted) | {"limit": limit}))


async def note_replay(connection: Connection, ids: Sequence[UUID]) -> None:
    """Record that dead letters are replayed now, for the timelines of their jobs. Call it before they are sent."""
    await connection.execute(block("note_replay"), {"ids": list(ids)})


async def discard(connection: Connection, ids: Sequence[UUID]) -> int:
    """Remove dead letters for good; return how many there were."""
    return (await connection.execute(block("discard_dead_letters"), {"ids": list(ids)})).rowcount


async def purge_finished(connection: Connection, *, days: int) -> int:
    """Remove dead letters of jobs that the ledger has: they became one while another delivery was committing.

    `days` is the ledger's retention: the ledger knows nothing of letters that died before it.
    """
    return (await connection.execute(block("purge_finished_dead_letters"), {"days": days})).rowcount


async def describe(connection: Connection, *, step: int = 1_000) -> int:
    """Fill the columns that lists need of up to `step` dead letters that lack them; return how many."""
    return (await connection.execute(block("describe_dead_letters"), {"step": step})).rowcount
