"""Settings of monitoring: Flower, metrics, traces and logs."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings


def absolute(path: Path) -> Path:
    """Return the absolute path. Raises ValueError for a `~` of a user without a home directory."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("should be a path without ~, because this user has no home directory") from None


class MonitoringSettings(BaseSettings):
    """The settings that have no effect on jobs."""

    # --- Flower ---
    #: Who may log in to Flower.
    flower_user: Annotated[str, Field(pattern=r"^[!-9;-~]+$")] = "admin"
    #: The password, eight printable ASCII characters or more. Flower does not start without one;
    #: `pattern-storage up` makes its own.
    flower_password: SecretStr | None = None
    #: More logins, `user:password` each, with blanks or line breaks between them. Viewers see every page; operators may
    #: cancel, retry and pause as well; admins may do everything, as flower_user may.
    flower_viewers: SecretStr | None = None
    flower_operators: SecretStr | None = None
    flower_admins: SecretStr | None = None
    #: Address that Flower listens on, with plain HTTP: loopback by default.
    flower_address: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    #: Flower's own default port.
    flower_port: Annotated[int, Field(ge=1, le=65_535)] = 5_555
    #: Path prefix of Flower's pages behind a proxy: `tools/flower`, for example.
    flower_url_prefix: Annotated[str, Field(pattern=r"^[\w./~-]*$")] = ""
    #: Whether Flower only shows: no job can be revoked or sent and no worker stopped from there.
    flower_read_only: bool = False
    #: File in which Flower keeps what it has seen across restarts; `celery/flower` in data_dir by default.
    flower_db: Annotated[Path, AfterValidator(absolute)] | None = None
    #: Seconds between two writes of that file: a Flower that is killed loses this much at most.
    flower_save_interval: Annotated[float, Field(ge=1, le=86_400)] = 30.0

    # --- metrics, traces, logs ---
    #: Port that metrics for Prometheus are served on; 0 serves none. Off by default: only one process can have a
    #: port, and the second worker on a host must start as well.
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    #: Address that metrics are served on. Loopback by default: the deployment decides who may read them.
    metrics_address: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    #: Whether traces are exported over OTLP, which needs `pip install pattern-storage[otel]`. If it is not set, traces
    #: are exported where that is installed and OTEL_EXPORTER_OTLP_ENDPOINT (or _TRACES_ENDPOINT) is set.
    traces: bool | None = None
    #: Log level of the processes of `up` and of a relay. DEBUG adds the beginning and the end of every transaction. A
    #: worker or beat that `celery` starts has Celery's own option `--loglevel`, whose default is WARNING.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    #: Log format of worker, beat and relay: text for people, or one JSON object a line for a log collector.
    log_format: Literal["text", "json"] = "text"
