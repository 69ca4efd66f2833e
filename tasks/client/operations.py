"""Methods of both clients for the five operations, each of which builds a contract and submits it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic, TypeVar, Unpack, cast
from uuid import UUID

from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import Pattern
from pattern_storage.storage.pattern_columns import PatternChanges, PatternColumns
from pattern_storage.tasks.client.call_options import CALL_OPTION_NAMES, CallOptions, check_names
from pattern_storage.tasks.client.outgoing import Outgoing, build, prepare, prepare_insert
from pattern_storage.tasks.client.query_arguments import QueryArguments
from pattern_storage.vocabulary import OperationName

#: Options of `insert` and `batch_insert`, those of `update` and `delete`, and the arguments of `query`.
WITH_ID = (*CALL_OPTION_NAMES, "correlation_id")
WITH_EXPECT = (*WITH_ID, "expect")
OF_QUERY = (*QueryParams.model_fields, *WITH_ID)

#: Return type of a client's methods, a Job or an awaitable of an AsyncJob; then those of each operation, with its data.
Submitted = TypeVar("Submitted")
Inserted = TypeVar("Inserted")
Updated = TypeVar("Updated")
Deleted = TypeVar("Deleted")
BatchInserted = TypeVar("BatchInserted")
Queried = TypeVar("Queried")


class Operations(ABC, Generic[Submitted, Inserted, Updated, Deleted, BatchInserted, Queried]):
    """insert, update, delete, batch_insert and query.

    Each takes `correlation_id` where the caller wants to choose the job's id, and the options of `CallOptions`:
    priority, delay or eta, expires, queue and connect_timeout. It raises ContractInvalid, before anything is sent, if
    a value breaks a rule.
    """

    @abstractmethod
    def _enqueue_one(self, job: Outgoing, options: CallOptions) -> Submitted:
        """Send a prepared job."""

    def insert(
        self,
        data: PatternColumns | Pattern,
        *,
        correlation_id: UUID | str | None = None,
        **options: Unpack[CallOptions],
    ) -> Inserted:
        """Write one pattern; `data` needs pattern_name, pattern_type, language and template_code."""
        check_names(options, WITH_ID)
        return cast("Inserted", self._enqueue_one(prepare_insert(data, correlation_id), options))

    def update(
        self,
        pattern_id: UUID | str,
        data: PatternChanges,
        *,
        expect: datetime | str | None = None,
        correlation_id: UUID | str | None = None,
        **options: Unpack[CallOptions],
    ) -> Updated:
        """Change the given columns of one pattern, and no other.

        `expect` is the `updated_at` that the caller has seen: a pattern that was updated since then is not changed, and
        the result is a `version_conflict`.
        """
        check_names(options, WITH_EXPECT)
        contract = build(
            OperationName.UPDATE, pattern_id=pattern_id, data=data, expect=expect, correlation_id=correlation_id
        )
        return cast("Updated", self._enqueue_one(prepare(contract, id_is_new=correlation_id is None), options))

    def delete(
        self,
        pattern_id: UUID | str,
        *,
        expect: datetime | str | None = None,
        correlation_id: UUID | str | None = None,
        **options: Unpack[CallOptions],
    ) -> Deleted:
        """Remove one pattern; `expect` as for `update`."""
        check_names(options, WITH_EXPECT)
        contract = build(OperationName.DELETE, pattern_id=pattern_id, expect=expect, correlation_id=correlation_id)
        return cast("Deleted", self._enqueue_one(prepare(contract, id_is_new=correlation_id is None), options))

    def batch_insert(
        self,
        patterns: Iterable[PatternColumns | Pattern],
        *,
        correlation_id: UUID | str | None = None,
        **options: Unpack[CallOptions],
    ) -> BatchInserted:
        """Write up to 10,000 patterns in one transaction: all of them or none."""
        check_names(options, WITH_ID)
        contract = build(OperationName.BATCH_INSERT, patterns=list(patterns), correlation_id=correlation_id)
        return cast("BatchInserted", self._enqueue_one(prepare(contract), options))

    def query(self, *, correlation_id: UUID | str | None = None, **query_params: Unpack[QueryArguments]) -> Queried:
        """Find patterns; the parameters are those of `storage.operations.query_params.QueryParams`.

        Options are given in the same way: no parameter has the name of an option.
        """
        check_names(query_params, OF_QUERY, "query parameter")
        params: dict[str, Any] = dict(query_params)
        options = cast("CallOptions", {name: params.pop(name) for name in CALL_OPTION_NAMES if name in params})
        contract = build(OperationName.QUERY, query_params=params, correlation_id=correlation_id)
        return cast("Queried", self._enqueue_one(prepare(contract), options))
