"""The command `pattern-storage`, also as `python -m pattern_storage`.

It imports only the standard library until it knows that the command line is installed (the extra `worker`).
"""

import sys

from pattern_storage.extras import ExtraMissing, extra_of

#: Commands that start servers of their own; the extra `up` is the command line, Flower and these servers.
WHOLE_SYSTEM = frozenset({"demo", "up"})


def main() -> None:
    """Run the command line. Ends with code 2 and one sentence if it is not installed, with 130 on Ctrl-C."""
    try:
        _run()
    except KeyboardInterrupt:
        # While modules are imported; a command that runs ends with this code by itself.
        sys.exit(130)


def _run() -> None:
    try:
        from pattern_storage.tasks.cli import main as run
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if extra is None:
            raise
        named = "up" if WHOLE_SYSTEM.intersection(sys.argv[1:2]) else extra
        sys.exit(_say(ExtraMissing(" ".join(["pattern-storage", *sys.argv[1:2]]), named)))
    run()


def _say(error: ExtraMissing) -> int:
    print(f"Error: {error}", file=sys.stderr)  # noqa: T201  # rich is what may be missing
    return 2


if __name__ == "__main__":
    main()
