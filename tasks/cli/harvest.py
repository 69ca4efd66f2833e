"""The command `harvest`: Python source to patterns, as JSON Lines."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from pattern_storage.extract import harvest as harvest_patterns
from pattern_storage.extract import standard_library
from pattern_storage.tasks.cli.exits import InputInvalid
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.cli.progress import counting

Source = Annotated[
    Path | None, typer.Argument(metavar="PATH", help="A Python file or folder; the standard library if left out.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="JSON Lines file to write; '-' is standard output.")]

#: Patterns after which the progress bar moves on.
SHOWN_EVERY = 100


def harvest(path: Source = None, output: Output = Path("-"), as_json: Json = False) -> None:
    """Turn each function and class of Python source into a pattern (JSON Lines)."""
    if as_json and str(output) == "-":
        raise InputInvalid("--json is given without --output FILE; standard output has the patterns then")
    skipped: list[str] = []

    def skip(file: Path, reason: str) -> None:
        skipped.append(f"{file}: {reason}")

    patterns = harvest_patterns(path or standard_library(), on_skip=skip)
    count = 0
    try:
        # On a terminal that the patterns themselves go to, they are the progress.
        quiet = str(output) == "-" and sys.stdout.isatty()
        with _opened(output) as stream, counting("harvesting", "patterns", quiet=quiet) as show:
            for pattern in patterns:
                stream.write(json.dumps(pattern, ensure_ascii=False) + "\n")
                count += 1
                if count % SHOWN_EVERY == 0:
                    show(count)
    except OSError as error:
        # The reader of our output has enough, as in `harvest | head`, or its disk is full.
        if isinstance(error, BrokenPipeError) or str(output) == "-":
            raise
        raise InputInvalid(f"cannot write {output}: {error.strerror}") from None
    if as_json:
        print_json({"patterns": count, "output": str(output), "skipped": skipped})
        return
    for reason in skipped:
        err.print(f"skipped {reason}")
    source = path or "the standard library"
    err.print(f"{count:,} patterns from {source}, {len(skipped)} files skipped")


@contextmanager
def _opened(output: Path) -> Iterator[IO[str]]:
    """Yield where to write: standard output, a device or pipe as it is, a file only once it is whole."""
    if str(output) == "-":
        with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as stream:
            yield stream
    elif output.exists() and not output.is_file():
        with output.open("w", encoding="utf-8") as stream:
            yield stream
    else:
        file = output.resolve()
        partial = file.with_name(f"{file.name}.part")
        try:
            with partial.open("w", encoding="utf-8") as stream:
                yield stream
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
