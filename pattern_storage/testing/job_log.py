"""Log of the jobs that the code under test has submitted, and assertions about them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python

from pattern_storage.storage.explanation import did_you_mean
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import WRITABLE, Pattern
from pattern_storage.testing.transactions import Transaction, rolled_back

#: Names that `assert_enqueued` compares with a field of the contract; `description` is a column.
FIELDS = tuple(name for name in ModelContractPatternStorage.model_fields if name not in WRITABLE)
#: Names that it compares with an option of the submission.
OPTIONS = ("priority", "delay", "eta", "expires", "queue")
KNOWN = (*FIELDS, *OPTIONS, *WRITABLE, *(name for name in QueryParams.model_fields if name not in WRITABLE), "outbox")


@dataclass(frozen=True, repr=False)
class SubmittedJob:
    """One job as it was submitted.

    Attributes:
        contract: the request.
        options: the options of the call, such as those of `submit(contract, priority=9)`.
        outbox: whether `submit_in` wrote it into the outbox.
        transaction: the transaction in which `submit_in` did so, where it is known.
    """

    contract: ModelContractPatternStorage
    options: Mapping[str, Any] = field(default_factory=dict)
    outbox: bool = False
    transaction: Transaction | None = None

    def __repr__(self) -> str:
        return f"SubmittedJob({self})"

    def __str__(self) -> str:
        """Return one line for the message of an assertion."""
        named = self.contract.data.get("pattern_name") or self.contract.pattern_id or ""
        if self.contract.patterns:
            named = f"{len(self.contract.patterns)} patterns"
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        expect = "" if self.contract.expect is None else f"expect={self.contract.expect.isoformat()}"
        return " ".join(
            filter(None, [self.contract.operation, str(named), expect, options, "in the outbox" * self.outbox])
        )

    def matches(self, wanted: Mapping[str, Any]) -> bool:
        """Return whether every value is in the contract, in one of its rows, or among the options."""
        return all(self._has(name, value) for name, value in wanted.items())

    def _has(self, name: str, value: Any) -> bool:
        if name == "outbox":
            return self.outbox == bool(value)
        if name == "expect" and isinstance(value, str):
            value = datetime.fromisoformat(value)
        if name in FIELDS:
            return bool(_plain(getattr(self.contract, name)) == _plain(value))
        if name in OPTIONS:
            return bool(self.options.get(name) == value)
        contract, plain = self.contract, to_jsonable_python(value)
        rows = [contract.data, contract.query_params, *contract.patterns]
        return any(name in row and row[name] == plain for row in rows)


class JobLog:
    """Submitted jobs, in order, without those of transactions that have rolled back."""

    def __init__(self) -> None:
        self._jobs: list[SubmittedJob] = []

    def __len__(self) -> int:
        return len(self._sent())

    def __iter__(self) -> Iterator[SubmittedJob]:
        return iter(self._sent())

    def __repr__(self) -> str:
        return f"JobLog([{', '.join(map(str, self._jobs))}])"

    def add(
        self,
        contract: ModelContractPatternStorage,
        options: Mapping[str, Any],
        *,
        outbox: bool = False,
        transaction: Transaction | None = None,
    ) -> None:
        """Log a job; see `SubmittedJob`. Options that are None are left out."""
        given = {name: value for name, value in options.items() if value is not None}
        self._jobs.append(SubmittedJob(contract, given, outbox, transaction))

    def clear(self) -> None:
        """Forget all jobs so far."""
        self._jobs.clear()

    def enqueued(self, **wanted: Any) -> list[SubmittedJob]:
        """Return the jobs that match `wanted`, without arguments all jobs; see `assert_enqueued`."""
        for name in wanted:
            if name not in KNOWN:
                raise TypeError(f"there is no {name!r} to look for; {did_you_mean(name, KNOWN)}")
        return [job for job in self._sent() if job.matches(wanted)]

    def assert_enqueued(self, *, count: int | None = None, **wanted: Any) -> SubmittedJob:
        """Fail unless a job was submitted that matches; return the first that does.

        Args:
            count: how many have to match; at least one where it is None.
            wanted: a field of the contract (`operation`, `correlation_id`, `pattern_id`, `expect`, or one as a whole,
                such as `data`), `outbox`, an option (`priority`, `delay`, `eta`, `expires`, `queue`), a column (of any
                row of a batch), or a parameter of a query.

        Raises TypeError for any other name.
        """
        found = self.enqueued(**wanted)
        if not found or (count is not None and len(found) != count):
            number = "none" if not found else str(len(found))
            jobs = "\n".join(f"  {job}" for job in self._sent()) or "  no job was submitted"
            raise AssertionError(f"{number} of these jobs matches {_shown(wanted)}:\n{jobs}")
        return found[0]

    def assert_not_enqueued(self, **wanted: Any) -> None:
        """Fail if a job was submitted that matches; without arguments, if any was."""
        if found := self.enqueued(**wanted):
            raise AssertionError(f"this job matches {_shown(wanted)}: {found[0]}")

    def ids(self) -> list[UUID]:
        """Return the correlation ids."""
        return [job.contract.correlation_id for job in self._sent()]

    def _sent(self) -> list[SubmittedJob]:
        jobs = list(self._jobs)
        lost = rolled_back({job.transaction for job in jobs if job.transaction is not None})
        return [job for job in jobs if job.transaction not in lost]


def _plain(value: Any) -> Any:
    """Return a value of a contract as JSON has it: then an id equals its text, and a time the same in another zone."""
    if isinstance(value, Pattern):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.timestamp()
    return to_jsonable_python(value)


def _shown(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in wanted.items()) or "anything"
