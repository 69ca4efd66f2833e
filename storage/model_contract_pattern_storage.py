"""The contract, which is a request for an operation, and the result of that operation.

Names, defaults and refusal texts follow the ONEX conventions. A contract is refused when it is built if a
field its operation needs is missing; the values inside `data`, `patterns` and `query_params` are checked
by the operation itself (`storage/operations/`), so that whatever reaches the effect node gets a result.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeAlias, cast
from uuid import UUID, uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import from_json, to_json
from typing_extensions import TypeVar

from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.explanation import explain, refuse_unknown
from pattern_storage.storage.pattern import Label, ModelPatternRecord, Moment, Pattern, Text
from pattern_storage.storage.pattern_columns import PatternChanges, PatternColumns
from pattern_storage.storage.required_fields import find_missing
from pattern_storage.storage.result_data import KINDS

__all__ = [
    "ModelContractBase",
    "ModelContractEffect",
    "ModelContractPatternStorage",
    "ModelPatternRecord",
    "ModelResult",
]


#: Type of a result's data; Any where the operation is not known.
Data = TypeVar("Data", default=Any, covariant=True)


#: Context of the validation of a message: its values are JSON already, and are checked later, one by one.
OF_MESSAGE = {"of a message": True}


def _jsonable(value: Any, info: ValidationInfo) -> Any:
    """Convert UUIDs, datetimes and the like to JSON at once, so that the contract is stored as it was built.

    Raises ValueError for what JSON cannot carry there and back: half a surrogate pair, 201 levels, a cycle.
    """
    if info.context is OF_MESSAGE:
        return value
    if isinstance(value, Pattern):
        value = _columns(value)
    elif isinstance(value, list | tuple):
        value = [_columns(item) if isinstance(item, Pattern) else item for item in value]
    elif not isinstance(value, dict):
        return value
    try:
        return from_json(to_json(value, inf_nan_mode="constants"))
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from None


def _columns(pattern: Pattern) -> dict[str, Any]:
    """Return the columns that were given: the others have the table's defaults."""
    return pattern.model_dump(mode="json", exclude_unset=True)


#: Forms of a pattern, or of changes to one, in which a contract takes them.
Columns: TypeAlias = dict[str, Any] | PatternColumns | PatternChanges | Pattern

JsonObject = Annotated[dict[str, Any], BeforeValidator(_jsonable)]
JsonObjects = Annotated[list[dict[str, Any]], BeforeValidator(_jsonable)]


class ModelResult(BaseModel, Generic[Data]):
    """The result of an operation. Results never raise: a failure is `success=False` with an `error`.

    Attributes:
        success: whether the effect is in the database.
        data: of a success, a dictionary with typed attributes (`storage.result_data`), see the table of operations in
            README.md; None on failure.
        error: one plain-English sentence; None on success.
        metadata: always `correlation_id`, `operation`, `duration_ms`; on failure also `error_type`.
    """

    success: bool
    # Not Optional: code that has checked `success` need not check this as well.
    data: Data = None  # type: ignore[assignment]
    error: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _with_typed_data(self) -> Self:
        if type(self.data) is dict and isinstance(operation := self.metadata.get("operation"), str):
            self.__dict__["data"] = KINDS.get(operation, dict)(cast("dict[str, Any]", self.data))
        return self

    @classmethod
    def failure(
        cls,
        error: str,
        error_type: str,
        *,
        correlation_id: UUID | str,
        operation: str | None,
        duration_ms: float | None = None,
        **fields: Any,
    ) -> Self:
        """Return the result of an operation that failed.

        Args:
            error: one plain-English sentence.
            error_type: its kind, for programs; see `pattern_storage.vocabulary.ErrorType`.
            correlation_id: the job.
            operation: its name; None where it is not known.
            duration_ms: milliseconds that it took; None where they are not known.
            fields: further entries of `metadata`.
        """
        metadata = {
            "correlation_id": str(correlation_id),
            "operation": None if operation is None else str(operation),
            "duration_ms": duration_ms,
            "error_type": str(error_type),
        }
        return cls(success=False, error=error, metadata=metadata | fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        return self.model_dump(mode="json")


class ModelContractBase(BaseModel):
    """Base of contracts. Unknown fields are refused, with a suggestion where a known one is close.

    Raises:
        ContractInvalid: however it is built. Inside another model, it is an error of that model's ValidationError.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, ser_json_inf_nan="constants")

    name: Label
    version: Label = "1.0.0"
    description: Text = ""
    correlation_id: UUID = Field(default_factory=uuid4)

    if not TYPE_CHECKING:  # mypy's plugin knows the fields

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise ContractInvalid(explain(error)) from None

        # It does nothing but translate errors, so pydantic may validate without calling it.
        __init__.__pydantic_base_init__ = True

        @classmethod
        def model_validate(cls, *given: Any, **options: Any) -> Self:
            """See pydantic. Raises ContractInvalid."""
            try:
                return super().model_validate(*given, **options)
            except ValidationError as error:
                raise ContractInvalid(explain(error)) from None

        @classmethod
        def model_validate_json(cls, *given: Any, **options: Any) -> Self:
            """See pydantic. Raises ContractInvalid."""
            try:
                return super().model_validate_json(*given, **options)
            except ValidationError as error:
                raise ContractInvalid(explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and not given.keys() <= cls.model_fields.keys():
            refuse_unknown(given, cls.model_fields, "field")
        return given


class ModelContractEffect(ModelContractBase):
    """A contract that asks an effect node for one operation."""

    operation: str
    node_type: Literal["effect"] = "effect"


class ModelContractPatternStorage(ModelContractEffect):
    """A request to insert, update, delete, batch_insert or query patterns.

    Attributes:
        data: of an insert: the pattern, as a `Pattern` or a dictionary (`PatternColumns`); of an update: the columns
            to change (`PatternChanges`). A `Pattern` becomes a dictionary of the columns that were given.
        patterns: of a batch_insert: such patterns.
        expect: of an update or delete: the pattern's `updated_at` that the caller has seen. If it has been updated
            since, the job is a `version_conflict` and changes nothing.

    Raises:
        ContractInvalid: (a ValueError) if a field that the operation needs is missing.
    """

    name: Label = ""
    pattern_id: UUID | None = None
    data: JsonObject = Field(default_factory=dict)
    patterns: JsonObjects = Field(default_factory=list)
    query_params: JsonObject = Field(default_factory=dict)
    #: Left out where it is None: workers of older releases do not know it.
    expect: Moment | None = Field(default=None, exclude_if=lambda value: value is None)

    if TYPE_CHECKING:  # it accepts more types than its fields have

        def __init__(
            self,
            *,
            operation: str,
            name: str = ...,
            version: str = ...,
            description: str = ...,
            correlation_id: UUID | str = ...,
            node_type: Literal["effect"] = ...,
            pattern_id: UUID | str | None = ...,
            data: Columns = ...,
            patterns: Sequence[Columns] = ...,
            query_params: dict[str, Any] = ...,
            expect: datetime | str | None = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := find_missing(self):
            raise ValueError(missing)
        if not self.name:
            self.name = f"pattern_storage_{self.operation}"
        if not self.description:
            self.description = f"Pattern storage operation: {self.operation}"
        return self
