"""Parser of Parquet: reads rows in batches of limited bytes, also where rows are wide."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.mapping import Mapping
from pattern_storage.tasks.imports.sources.parser import Row, broken
from pattern_storage.tasks.imports.sources.streams import BLOCK
from pattern_storage.vocabulary import ErrorType

#: Limit of a batch's bytes, which are estimated; and of its rows, because some may be much wider than the others.
BATCH_BYTES = 8 * BLOCK
BATCH_ROWS = 32

#: Limit of a data page's bytes, which are in memory twice. They are estimated: writers check the size of a page once in
#: PAGE_ROWS rows.
PAGE_BYTES = 64 * BLOCK
PAGE_ROWS = 1_024

Converter = Callable[[Any], Any]


def parquet_rows(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    """Yield the rows of a file. Raises ImportFailed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        message = "Parquet needs pyarrow: pip install 'pattern-storage[parquet]'"
        raise ImportBroken(ErrorType.SOURCE_UNREADABLE, message) from None
    with source.open_seekable(file) as whole:
        try:
            # Without pre-buffering and with small buffers: a whole row group would be in memory otherwise.
            with pyarrow.parquet.ParquetFile(whole, buffer_size=BLOCK // 4, pre_buffer=False) as table:
                mapping = Mapping(plan, table.schema_arrow.names, file=file.display_name)
                source.set_row_count(table.metadata.num_rows)
                types = {name: table.schema_arrow.field(name).type for name in mapping.names}
                converters = {name: convert for name, kind in types.items() if (convert := converter(kind)) is not None}
                for group in range(table.num_row_groups):
                    _refuse_large_pages(table.metadata.row_group(group), mapping.names, file)
                for number, values in enumerate(_values(table, mapping.names), start=1):
                    yield number, _row(mapping, converters, values)
        except (pyarrow.ArrowException, OSError) as error:
            raise broken(file, " ".join(str(error).split())) from None


def _row(mapping: Mapping, converters: dict[str, Converter], values: dict[str, Any]) -> dict[str, Any] | ValueError:
    try:
        for name, convert in converters.items():
            if (value := values[name]) is not None:
                values[name] = convert(value)
        return mapping.from_parquet(values)
    except ValueError as error:
        return error


def _values(table: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    for number in range(table.num_row_groups):
        size = batch_rows(table.metadata.row_group(number), names)
        for batch in table.iter_batches(size, row_groups=[number], columns=names, use_threads=False):
            yield from batch.to_pylist()


def _refuse_large_pages(group: Any, names: list[str], file: SourceFile) -> None:
    """Raise ImportBroken for a row group that would take several times PAGE_BYTES of memory."""
    for column in _columns(group, names):
        size = min(column.total_uncompressed_size, column.total_uncompressed_size * PAGE_ROWS / max(group.num_rows, 1))
        if size > PAGE_BYTES:
            reason = f"rows of {column.path_in_schema} are so wide that a page of them may have {size / BLOCK:,.0f} MiB"
            raise broken(file, f"{reason}, and at most {PAGE_BYTES // BLOCK} are read; write smaller row groups")


def _columns(group: Any, names: list[str]) -> Iterator[Any]:
    for column in map(group.column, range(group.num_columns)):
        # A name may itself have dots, which in a path separate it from those of nested columns.
        if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in names):
            yield column


def batch_rows(group: Any, names: list[str]) -> int:
    """Return the number of rows of a row group that are read at once.

    A row's width is estimated as the average of the group. A value that repeats is stored once, in the column's
    dictionary, and takes memory in every row, so the dictionary's size is added.
    """
    widest = 0.0
    for column in _columns(group, names):
        widest += column.total_uncompressed_size / max(group.num_rows, 1)
        if column.has_dictionary_page:
            stored = max(column.data_page_offset - (column.dictionary_page_offset or 0), 0)
            widest += stored * column.total_uncompressed_size / max(column.total_compressed_size, 1)
    return int(min(max(BATCH_BYTES // max(widest, 1.0), 1), BATCH_ROWS))


def converter(kind: Any) -> Converter | None:
    """Return a function that converts pyarrow's values of this type to JSON types, None if they are of JSON types.

    The function raises ValueError for bytes that are not UTF-8, and for decimals that no float equals.
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return converter(kind.value_type)
    if types.is_map(kind):
        key, item = converter(kind.key_type) or _same, converter(kind.item_type) or _same
        return lambda pairs: {key(name): None if value is None else item(value) for name, value in pairs}
    if types.is_struct(kind):
        fields = {field.name: convert for field in kind if (convert := converter(field.type)) is not None}
        if not fields:
            return None
        return lambda values: {
            name: fields[name](value) if name in fields and value is not None else value
            for name, value in values.items()
        }
    if types.is_nested(kind) and hasattr(kind, "value_type"):
        element = converter(kind.value_type)
        return element and (lambda values: [None if value is None else element(value) for value in values])
    if types.is_decimal(kind):
        return _from_decimal
    if types.is_temporal(kind):
        return _from_time
    is_bytes = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return _from_bytes if any(is_kind(kind) for is_kind in is_bytes) else None


def _same(value: Any) -> Any:
    return value


def _from_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        if len(value) == 16:
            return str(UUID(bytes=value))
        raise ValueError("a binary value is not UTF-8 text") from None


def _from_decimal(value: Decimal) -> int | float:
    if value == value.to_integral_value():
        return int(value)
    if Decimal(repr(float(value))) != value:
        raise ValueError(f"the decimal {value} cannot be kept exactly")
    return float(value)


def _from_time(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)
