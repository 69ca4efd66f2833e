"""Settings, from the environment: read once, and validated before anything starts.

Servers come from DATABASE_URL and REDIS_URL (BROKER_URL and RESULT_BACKEND_URL where they differ); every other
field `x` from PATTERN_STORAGE_X. The folder PATTERN_STORAGE_SECRETS_DIR may have a file, named like the field, for any
that no variable sets. A wrong value stops the start; the error names the variable, its value and the rule.
"""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from click import ClickException
from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from pattern_storage.config.broker import Broker, broker_of
from pattern_storage.config.monitoring_settings import MonitoringSettings, absolute
from pattern_storage.config.secret_files import SecretsUnreadable, read_secrets
from pattern_storage.config.urls import complete
from pattern_storage.config.validators import check_key_prefix, cross_validate
from pattern_storage.config.variables import PREFIX, find_misspelt, missing, sentence
from pattern_storage.embedded import EmbeddedError, default_data_dir, read_state
from pattern_storage.vocabulary import IMPORT_OPERATION, OperationName

#: Seconds that a job has left to roll back and return its result when PostgreSQL has cancelled its statement.
ROLLBACK_MARGIN = 20.0

#: Fields of the servers' URLs.
URLS = ("database_url", "redis_url", "broker_url", "result_backend_url")
#: PostgreSQL counts milliseconds, in a 32-bit integer.
Seconds = Annotated[float, Field(ge=0.001, le=2_147_483)]


class SettingsInvalid(ClickException, ValueError):
    """A setting is missing or breaks a rule; the text names the variable, its value and the rule.

    A ClickException, so that Celery's command line prints this text and ends with code 2 instead of a traceback.
    """

    exit_code = 2


def _from(variable: str) -> Any:
    return Field(default=None, validation_alias=AliasChoices(variable, variable.lower()), repr=False)


class Settings(MonitoringSettings):
    """The settings of application, worker and command line. Build it with `load_settings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", populate_by_name=True, frozen=True)

    # --- servers ---
    #: PostgreSQL, as a libpq URL. Clients need it to cancel, and where Redis does not know a job or its result.
    database_url: str | None = _from("DATABASE_URL")
    #: Redis or Valkey, for queue and results alike.
    redis_url: str | None = _from("REDIS_URL")
    #: The queue, where it is not REDIS_URL: another Redis, or amqp:// for RabbitMQ.
    broker_url: str | None = _from("BROKER_URL")
    #: The results, where they are not in REDIS_URL.
    result_backend_url: str | None = _from("RESULT_BACKEND_URL")
    #: Sentinel's name of the primary, where a URL is sentinel://. The default is the name in Sentinel's own example.
    sentinel_master: Annotated[str, Field(min_length=1)] = "mymaster"
    #: The password of the Sentinels themselves; the one in the URL is Redis'.
    sentinel_password: SecretStr | None = None
    #: Prefix of all our Redis keys and channels, so that two installations can share one database.
    key_prefix: Annotated[str, AfterValidator(check_key_prefix)] = ""
    #: Folder with a file for each secret (`database_url`, ...), as Docker and Kubernetes mount them; a variable wins.
    secrets_dir: Path | None = None
    #: Folder of the embedded servers and their state, of reject files and reports of imports, and of Flower's file.
    data_dir: Annotated[Path, AfterValidator(absolute)] = Field(default_factory=default_data_dir)

    # --- PostgreSQL ---
    #: Connections each worker process keeps open. Two: one works while another commits.
    pool_min_size: Annotated[int, Field(ge=0, le=1_000)] = 2
    #: Connections at most, per worker process. Ten is the original contract's upper bound.
    pool_max_size: Annotated[int, Field(ge=1, le=1_000)] = 10
    #: Seconds to wait for a free connection. Longer than any healthy transaction, shorter than a job's soft limit.
    pool_timeout: Annotated[float, Field(gt=0, le=3_600)] = 10.0
    #: Seconds after which PostgreSQL cancels a statement of an insert, update or delete. Celery's soft limit below
    #: cancels it too, whichever is shorter; either way the transaction has ended before the job has.
    statement_timeout: Seconds = 60.0
    #: Seconds after which PostgreSQL cancels a query. Every documented one uses an index and takes milliseconds.
    query_statement_timeout: Seconds = 60.0
    #: Seconds after which PostgreSQL cancels a batch. Ten thousand patterns take about half a second.
    batch_statement_timeout: Seconds = 180.0
    #: Seconds that a statement waits for the lock of another transaction; then the job is retried.
    lock_timeout: Seconds = 10.0
    #: Uses of a statement before it is prepared. -1 is for PgBouncer in transaction mode: nothing is prepared, and each
    #: transaction sets the timeouts above itself, in one more round trip.
    prepare_threshold: Annotated[int, Field(ge=-1, le=1_000)] = 5

    # --- jobs ---
    #: Seconds after which a job is told to stop. A batch of 10,000 takes about half a second.
    task_soft_time_limit: Annotated[int, Field(ge=1)] = 240
    #: Seconds after which a job's process is killed, at most: as long after its own soft limit as this is above that.
    task_time_limit: Annotated[int, Field(ge=2)] = 300
    #: Seconds until the jobs of a worker that vanished are delivered again (Redis). A worker that lives renews what it
    #: holds, four times in this time, so it need not exceed any other limit. A minute: a failover of Redis, or a
    #: worker that is stopped for a moment, makes no job run twice.
    visibility_timeout: Annotated[int, Field(ge=3)] = 60
    #: Whether workers take jobs from Redis so that a kill at any moment loses none (tasks/transport). Off: kombu's own
    #: transport, where a kill between taking a job and noting it as unacked loses the job.
    safe_transport: bool = True
    #: Jobs a worker process takes ahead. Four hides the round trip and still shares the rest fairly.
    prefetch_multiplier: Annotated[int, Field(ge=1, le=1_000)] = 4
    #: Whether a worker executes the single writes that it has received in one transaction (tasks/worker/group).
    group_execution: bool = True
    #: Jobs that share a transaction at most. A larger group gains nothing (docs/performance.md).
    group_size: Annotated[int, Field(ge=1, le=1_000)] = 64
    #: Seconds a stopping worker lets running jobs finish before it hands them back.
    soft_shutdown_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20.0
    #: Whether the state STARTED is stored for a job that has begun. Costs one Redis write a job.
    track_started: bool = True
    #: Seconds after which a run of an import is told to stop; its process is killed as much later as with other jobs.
    import_time_limit: Annotated[int, Field(ge=1, le=604_800)] = 14_400

    #: Times a job may begin before it is a dead letter. Five, with the delays below, is about half a minute.
    max_attempts: Annotated[int, Field(ge=2, le=1_000)] = 5
    #: Longest delay of the first retry in seconds, doubled with every attempt (full jitter: the delay is random).
    retry_backoff: Annotated[int, Field(ge=0, le=3_600)] = 2
    #: Longest delay of any retry in seconds.
    retry_backoff_max: Annotated[int, Field(ge=0, le=86_400)] = 60
    #: Days that the ledger remembers a finished job. A message that is redelivered later than that is executed again.
    ledger_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    #: Seconds between two polls of the outbox by an idle relay: the median wait of a job there is half of it. While
    #: jobs come it polls more often. A tenth of a second costs a relay and PostgreSQL under 1 % of a core.
    relay_poll_interval: Annotated[float, Field(gt=0, le=3_600)] = 0.1
    #: Seconds after which a job of the outbox that is not done is published again, doubled every time, 64-fold at
    #: most. It need not exceed any other limit: a second message is harmless and only costs a worker one lookup.
    relay_republish_delay: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    #: Whether each worker hosts a relay in its main process, so that the outbox needs no process of its own.
    worker_relay: bool = False

    # --- imports ---
    #: The imports file (docs/imports.md). Only beat and the command line read it: a run carries its plan.
    imports_file: Annotated[Path, AfterValidator(absolute)] | None = None
    #: Days the history of imports is kept. The last completed run of each import is kept for longer.
    import_history_days: Annotated[int, Field(ge=1, le=36_500)] = 90

    # --- results and clients ---
    #: Seconds a result stays in Redis. A day: long enough to see in the morning what failed at night.
    result_expires: Annotated[int, Field(ge=1, le=3_153_600_000)] = 86_400
    #: Seconds that a client waits for a server to accept or answer before it reports it as down.
    connect_timeout: Annotated[float, Field(gt=0, le=600)] = 5.0

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the files of the secrets folder."""
        folder = os.environ.get(f"{PREFIX}SECRETS_DIR")
        secrets = read_secrets(Path(folder), cls.model_fields) if folder else {}
        return named["init_settings"], named["env_settings"], InitSettingsSource(settings_cls, init_kwargs=secrets)

    @model_validator(mode="after")
    def _cross_validate(self) -> Self:
        cross_validate(self)
        return self

    @property
    def prefetch(self) -> int:
        """Prefetch limit per worker process: wide with group execution, where our transport limits long jobs itself."""
        is_wide = self.group_execution and self.safe_transport and self.broker_kind.is_redis
        return max(self.prefetch_multiplier, 2 * self.group_size if is_wide else 0)

    @property
    def statement_timeouts(self) -> dict[str, float]:
        """Statement timeout of each operation, in seconds."""
        writes = (OperationName.INSERT, OperationName.UPDATE, OperationName.DELETE)
        return {
            **dict.fromkeys(writes, self.statement_timeout),
            OperationName.QUERY: self.query_statement_timeout,
            OperationName.BATCH_INSERT: self.batch_statement_timeout,
        }

    def time_limits(self, operation: str) -> tuple[float, float]:
        """Return Celery's soft and hard time limit of this operation's jobs, in seconds.

        At most those of all jobs; else long enough to get a connection and for PostgreSQL to cancel the statement.
        """
        margin = self.task_time_limit - self.task_soft_time_limit
        if operation == IMPORT_OPERATION:
            return float(self.import_time_limit), float(self.import_time_limit + margin)
        statement = self.statement_timeouts.get(operation, self.statement_timeout)
        soft = min(float(self.task_soft_time_limit), self.pool_timeout + statement + ROLLBACK_MARGIN)
        return soft, soft + margin

    @property
    def database(self) -> str:
        """The URL of PostgreSQL. Raises SettingsInvalid if there is none."""
        return self._need("DATABASE_URL", self.database_url)

    @property
    def broker(self) -> str:
        """The URL of the queue. Raises SettingsInvalid if there is none."""
        return complete(self._need("REDIS_URL", self.broker_url or self.redis_url))

    @property
    def result_backend(self) -> str:
        """The URL of the results. Raises SettingsInvalid if there is none."""
        return complete(self._need("REDIS_URL", self.result_backend_url or self.redis_url))

    @property
    def broker_kind(self) -> Broker:
        """The kind of broker that the queue is on."""
        return broker_of(self.broker)

    @property
    def flower_file(self) -> Path:
        """The file of Flower's state."""
        return self.flower_db or self.data_dir / "celery" / "flower"

    @property
    def has_url(self) -> bool:
        """Whether the URL of any server is set; without one those of a running `up` are used."""
        return any(getattr(self, name) for name in URLS)

    def _need(self, variable: str, url: str | None) -> str:
        if url is None:
            raise SettingsInvalid(missing(variable, [name for name in URLS if getattr(self, name)], self.data_dir))
        return url


def load_settings(**overrides: Any) -> Settings:
    """Read the settings: `overrides`, then the environment, then the running embedded stack.

    Raises SettingsInvalid with one sentence for each wrong value.
    """
    if misspelt := find_misspelt(os.environ, Settings.model_fields):
        raise SettingsInvalid(misspelt)
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
        # With any URL none: half of one system mixed with half of another would be worse than an error.
        state = None if settings.has_url else read_state(settings.data_dir)
    except ValidationError as error:
        raise SettingsInvalid("; ".join(map(sentence, error.errors()))) from None
    except (SecretsUnreadable, EmbeddedError) as error:
        raise SettingsInvalid(str(error)) from None
    if state is None:
        return settings
    return settings.model_copy(update={"database_url": state.database_url, "redis_url": state.redis_url})


@cache
def environment_settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()
