"""Parser of JSON Lines: one object in each line."""

from collections.abc import Iterator

from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.parser import MAX_LINE_BYTES, Row, broken, refuse_binary


def json_lines(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    """Yield the lines of a file. Raises ImportFailed."""
    with source.open(file) as stream:
        refuse_binary(stream, file)
        number, first = 0, True
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            is_blank = not line or line.isspace()
            if first and not is_blank:
                _refuse_other_json(line, file)
                first = False
            if len(line) > MAX_LINE_BYTES:
                raise broken(file, f"line {number} is longer than {MAX_LINE_BYTES:,} bytes")
            if not is_blank:
                # With its end, a JSON error could be reported in a second line of this one.
                yield number, line.rstrip(b"\r\n")


def _refuse_other_json(line: bytes, file: SourceFile) -> None:
    """Raise ImportBroken for a file that is one JSON value: each of its lines would be a bad row."""
    start = line.lstrip()
    if start.startswith(b"["):
        kind = "a JSON array"
    elif start.rstrip() == b"{":
        kind = "JSON of several lines"
    else:
        return
    raise broken(file, f"it is {kind}, and JSON Lines has one object in each line ('jq -c' makes it of any JSON)")
