"""Base of exceptions that cross the border of a process."""

from copyreg import __newobj__  # type: ignore[attr-defined]  # it has the name that pickle looks for
from typing import Any


class PicklableError(Exception):
    """Base of errors that pickle restores without their constructors, which have other arguments than `args`.

    Process pools pickle what their functions raise, and are broken by an error that cannot be restored.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), vars(self) | {"args": self.args}
